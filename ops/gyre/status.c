/* status: nodes and collections, as tables or JSON. */
#include "args.h"
#include "collection.h"
#include "output.h"
#include "status.h"

#include <inttypes.h>

enum { CALL_SECONDS = 10 };

static const char STATUS[] = "/gyre.v1.Cluster/Status";

gyre_status cluster_status(gyre_client *client, int64_t deadline_ns, Gyre__V1__ClusterStatusReply **out, gyre_error *err)
{
    Gyre__V1__ClusterStatusRequest request = GYRE__V1__CLUSTER_STATUS_REQUEST__INIT;
    return gyre_client_call(client, STATUS, &request.base, &gyre__v1__cluster_status_reply__descriptor, out, deadline_ns, err);
}

static const char *state_text(Gyre__V1__NodeState state)
{
    return state == GYRE__V1__NODE_STATE__NODE_STATE_UP ? "up" : state == GYRE__V1__NODE_STATE__NODE_STATE_DOWN ? "down" : "?";
}

void cluster_print(const Gyre__V1__ClusterStatusReply *reply, FILE *out)
{
    static const struct column columns[] = {{"node", false},  {"state", false}, {"zone", false}, {"bus", false},      {"http", false}, {"replicas", true},
                                            {"points", true}, {"memory", true}, {"disk free", true}, {"simd", false}, {"seen", true}};
    struct table table = {.columns = columns, .column_count = sizeof columns / sizeof *columns};
    char number[NUMBER_TEXT_BYTES];
    fprintf(out, "coordinator %s, gyre %s, catalog %s\n", reply->coordinator, reply->version, reply->catalog);
    for (size_t i = 0; i < reply->n_nodes; i++) {
        const Gyre__V1__NodeInfo *node = reply->nodes[i];
        table_add(&table, "%s", node->name);
        table_add(&table, "%s%s", state_text(node->state), node->draining ? ", draining" : "");
        table_add(&table, "%s", node->zone);
        table_add(&table, "%s", node->address);
        table_add(&table, "%s", node->http_address);
        table_add(&table, "%u", node->replicas);
        table_add(&table, "%s", number_text(node->points, number));
        table_add(&table, "%s", bytes_text(node->resident_bytes, number));
        table_add(&table, "%s", bytes_text(node->disk_free_bytes, number));
        table_add(&table, "%s", node->simd);
        table_add(&table, "%.1f s ago", (double)node->since_report_ms / 1e3);
    }
    table_print(&table, out);
}

static json_t *status_json(const Gyre__V1__ClusterStatusReply *reply, const Gyre__V1__ListCollectionsReply *list)
{
    json_t *nodes = json_array(), *collections = json_array();
    for (size_t i = 0; i < reply->n_nodes; i++) {
        const Gyre__V1__NodeInfo *node = reply->nodes[i];
        json_array_append_new(nodes, json_pack("{ss ss ss ss ss ss si sI sI sI sI ss sb si ss}", "name", node->name, "state", state_text(node->state),
                                               "address", node->address, "http_address", node->http_address, "version", node->version,
                                               "simd", node->simd, "replicas", (int)node->replicas, "points", (json_int_t)node->points,
                                               "resident_bytes", (json_int_t)node->resident_bytes, "disk_free_bytes",
                                               (json_int_t)node->disk_free_bytes, "since_report_ms", (json_int_t)node->since_report_ms, "zone", node->zone,
                                               "draining", node->draining, "members", (int)node->members, "heir", node->heir));
    }
    for (size_t i = 0; i < list->n_collections; i++)
        json_array_append_new(collections, collection_json(list->collections[i]));
    return json_pack("{ss ss ss so so sI}", "version", reply->version, "coordinator", reply->coordinator, "catalog", reply->catalog,
                     "nodes", nodes, "collections", collections, "points", (json_int_t)reply->points);
}

int command_status(struct cli *cli, int argc, char **argv)
{
    bool json = false;
    const struct arg args[] = {{"json", 0, ARG_SWITCH, &json, 0, 0, NULL, "print JSON"}};
    const struct usage usage = {"status", "", 0, 0, "Shows the nodes and the collections of a cluster.",
                                "  gyre status\n  gyre status --json | jq '.nodes[] | select(.state == \"down\")'\n"};
    int stop = args_read(&usage, args, 1, cli, &argc, argv);
    if (stop != ARGS_READ)
        return stop;
    Gyre__V1__ClusterStatusRequest request = GYRE__V1__CLUSTER_STATUS_REQUEST__INIT;
    Gyre__V1__ClusterStatusReply *reply = NULL;
    Gyre__V1__ListCollectionsReply *list = NULL;
    if (cli_call(cli, usage.command, STATUS, &request.base, &gyre__v1__cluster_status_reply__descriptor, &reply, CALL_SECONDS) != CLI_DONE)
        return CLI_FAILED;
    if (collection_list(cli, usage.command, &list) != CLI_DONE) {
        gy_wire_free(reply);
        return CLI_FAILED;
    }
    if (json) {
        json_write(status_json(reply, list), stdout);
    } else {
        cluster_print(reply, stdout);
        if (list->n_collections)
            printf("\n");
        collections_print(list->collections, list->n_collections, stdout);
    }
    gy_wire_free(list);
    gy_wire_free(reply);
    return CLI_DONE;
}
