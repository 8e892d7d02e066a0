#include "http/pages.h"

#include <stdlib.h>

/* One file, no outside resource, works from a saved copy; text is set as text, never as markup, so a name cannot become a script.
 */
static const char page[] =
    "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<title>Gyre</title>\n"
    "<meta name=\"viewport\" content=\"width=device-width\">\n<style>\n"
    "body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:70rem;padding:0 1rem;color:#222;background:#fff}\n"
    "h1{font-size:1.4rem}h2{font-size:1.1rem;margin-top:2rem}table{border-collapse:collapse;width:100%}\n"
    "th,td{text-align:left;padding:.25rem .75rem .25rem 0;border-bottom:1px solid #ddd}td.n,th.n{text-align:right}\n"
    ".down{color:#b00020;font-weight:600}#at{color:#666}\n"
    "@media(prefers-color-scheme:dark){body{color:#ddd;background:#181818}th,td{border-color:#444}.down{color:#ff6b6b}"
    "#at{color:#999}}\n"
    "</style>\n</head>\n<body>\n<h1>Gyre <span id=\"version\"></span></h1>\n<p id=\"at\">loading</p>\n"
    "<h2>Nodes</h2><table id=\"nodes\"></table>\n<h2>Collections</h2><table id=\"collections\"></table>\n<script>\n"
    "const count=n=>n.toLocaleString('en'),mib=n=>count(Math.round(n/1048576));\n"
    "const columns={nodes:[['node',x=>x.name],['state',x=>x.state],['address',x=>x.address],['scans with',x=>x.simd],\n"
    "['replicas',x=>count(x.replicas)],['points',x=>count(x.points)],['memory MiB',x=>mib(x.resident_bytes)],\n"
    "['disk free MiB',x=>mib(x.disk_free_bytes)],['last report ms',x=>count(x.since_report_ms)]],\n"
    "collections:[['collection',x=>x.name],['dim',x=>count(x.dim)],['metric',x=>x.metric],['points',x=>count(x.points)],\n"
    "['codec',x=>x.codec+(x.codec==='rabitq'?' '+x.bits+' "
    "bit':'')],['codebook',x=>x.codebook_version],['lists',x=>count(x.lists)],\n"
    "['lists at recall .95 "
    ".99',x=>[.95,.99].map(r=>(x.probe_costs.find(c=>c.recall===r)||{lists:x.lists}).lists).map(count).join(' ')],\n"
    "['training',x=>x.training?x.training.phase+' '+Math.round(100*x.training.done)+' "
    "%':''],['shards',x=>count(x.shards.length)],\n"
    "['unreachable',x=>count(x.shards.filter(s=>!s.reachable).length)],\n"
    "['re-encoding',x=>count(x.shards.filter(s=>s.codebook_version<x.codebook_version).length)]]};\n"
    "function draw(id,rows){const t=document.getElementById(id);t.replaceChildren();const h=t.insertRow();\n"
    "for(const[name]of columns[id]){const c=document.createElement('th');c.textContent=name;h.append(c)}\n"
    "for(const row of rows){const r=t.insertRow();for(const[name,get]of columns[id]){const "
    "c=r.insertCell();c.textContent=get(row);\n"
    "if((name==='state'&&row.state!=='up')||(name==='unreachable'&&get(row)!=='0'))c.className='down'}}}\n"
    "async function show(){const at=document.getElementById('at');try{const s=await(await fetch('status')).json();\n"
    "document.getElementById('version').textContent=s.cluster.version;draw('nodes',s.cluster.nodes);draw('collections',s."
    "collections);\n"
    "at.className='';at.textContent=s.cluster.coordinator+' · '+count(s.cluster.points)+' points · '+new "
    "Date().toLocaleTimeString()}\n"
    "catch(e){at.className='down';at.textContent='the coordinator does not answer: '+e.message}setTimeout(show,2000)}\n"
    "show();\n</script>\n</body>\n</html>\n";

static char *front_page(void *self)
{
    (void)self;
    return strdup(page);
}

static char *status_page(void *self)
{
    struct gy_pages *pages = self;
    Gyre__V1__ClusterStatusReply *cluster = NULL;
    Gyre__V1__ListCollectionsReply *collections = NULL;
    char *text = NULL;
    if (gy_cluster_service_status(pages->cluster, &cluster, NULL) == GYRE_OK &&
        gy_placement_list(pages->placement, &collections, NULL) == GYRE_OK)
        text = gy_status_json(cluster, collections);
    gy_wire_free(cluster);
    gy_wire_free(collections);
    return text;
}

void gy_pages_init(struct gy_pages *self, struct gy_http_page *out)
{
    out[0] = (struct gy_http_page){"/", "text/html; charset=utf-8", front_page, self};
    out[1] = (struct gy_http_page){"/status", "application/json", status_page, self};
}
