"""What ops/bench/ann makes of measured points: the best speed at each recall, a table, JSON and a picture (SVG)."""
import bisect
import json
import math

LEVELS = (0.90, 0.95, 0.99)
COLOURS = ("#c0392b", "#e67e22", "#b7950b", "#2471a3", "#7d3c98", "#117864", "#5d6d7e", "#d98880")


def front(points, speed):
    """The points that no other beats in both recall and speed, by recall."""
    best, out = 0.0, []
    for point in sorted(points, key=lambda p: (-p["recall"], -p[speed])):
        if point[speed] > best:
            best = point[speed]
            out.append(point)
    return out[::-1]


def at(points, level, speed):
    """Speed and full vectors read at a recall, between the two points of the front around it (the logarithms are taken as linear); the
    front's first point where that is beyond the level already; None where no point gets there."""
    along = front(points, speed)
    above = bisect.bisect_left([p["recall"] for p in along], level)
    if above == len(along):
        return None
    high, low = along[above], along[above - 1] if above else along[above]
    width = high["recall"] - low["recall"]
    share = (level - low["recall"]) / width if width > 0 and above else 1.0

    def between(field):
        return math.exp((1 - share) * math.log(max(low[field], 1e-9)) + share * math.log(max(high[field], 1e-9)))

    return {"qps": between(speed), "reads": between("reads"), "knobs": high["knobs"]}


def summary(points):
    """[k][engine]: bytes, times and what at() gives for every level, on one core and on all."""
    out = {}
    for point in points:
        out.setdefault(point["k"], {}).setdefault(point["engine"], []).append(point)
    return {k: {engine: {"levels": {level: {"one": at(of, level, "qps"), "all": at(of, level, "qps_all")} for level in LEVELS},
                         "recall_max": max(p["recall"] for p in of), "points": len(of),
                         **{field: min(p[field] for p in of) for field in ("bytes", "bytes_full", "train_s", "build_s")}}
                for engine, of in engines.items()} for k, engines in sorted(out.items())}


def ratios(engines):
    """[peer][level]: our best over the peer's, one core and all; None where either does not get there."""
    def best(level, cores):
        speeds = [e["levels"][level][cores] for name, e in engines.items() if name.startswith("Gyre")]
        return max((s["qps"] for s in speeds if s), default=None)

    out = {}
    for name, engine in engines.items():
        if name.startswith("Gyre"):
            continue
        out[name] = {}
        for level in LEVELS:
            pair = {}
            for cores in ("one", "all"):
                mine, theirs = best(level, cores), engine["levels"][level][cores]
                pair[cores] = mine / theirs["qps"] if mine and theirs else None
            out[name][level] = pair
    return out


def memory_ratio(engines, peer):
    """Bytes of our fastest at 0.95, whose full vectors may stay on disk, over all of the peer's."""
    ours = [e for name, e in engines.items() if name.startswith("Gyre") and e["levels"][0.95]["one"]]
    if not ours:
        return "-"
    return f"{max(ours, key=lambda e: e['levels'][0.95]['one']['qps'])['bytes'] / engines[peer]['bytes_full']:.3f}"


def number(value):
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def table(title, notes, facts, points, threads):
    """The whole text."""
    lines = [title, *(f"  {note}" for note in notes), ""]
    for k, engines in summary(points).items():
        lines.append(f"recall@{k}: queries a second, by recall; 1: one core, one query at a time, of CPU time; {threads}: all cores, wall time")
        lines.append(f"{'':34}" + "".join(f"{f'{level:.2f} (1)':>11}{f'({threads})':>9}{'read':>8}" for level in LEVELS)
                     + f"{'B/vector':>10}{'with full':>10}{'train s':>9}{'build s':>9}")
        for name, engine in engines.items():
            cells = ""
            for level in LEVELS:
                one, both = engine["levels"][level]["one"], engine["levels"][level]["all"]
                cells += f"{number(one and one['qps']):>11}{number(both and both['qps']):>9}{number(one and one['reads']):>8}"
            lines.append(f"{name:34}{cells}{number(engine['bytes']):>10}{number(engine['bytes_full']):>10}"
                         f"{engine['train_s']:>9.1f}{engine['build_s']:>9.1f}")
        if any(name.startswith("Gyre") for name in engines):
            for peer, levels in ratios(engines).items():
                cells = "".join(f"{'x ' + format(levels[level]['one'], '.2f') if levels[level]['one'] else '-':>11}"
                                f"{format(levels[level]['all'], '.2f') if levels[level]['all'] else '-':>9}{'':8}" for level in LEVELS)
                lines.append(f"{'Gyre / ' + peer:34}{cells}{memory_ratio(engines, peer):>10}")
            lines.append("Gyre / peer: the fastest Gyre of each recall; its memory (the one of 0.95) without full vectors over the peer's with them")
        lines.append("")
    if facts:
        lines.append("Besides")
        lines += [f"  {fact}" for fact in facts]
    return "\n".join(lines).rstrip() + "\n"


def as_json(title, notes, facts, points, threads):
    out = {"set": title, "threads": threads, "notes": notes, "facts": facts, "points": points,
           "summary": {k: {"engines": engines, "ratios": ratios(engines)} for k, engines in summary(points).items()}}
    return json.dumps(out, indent=1)


def picture(title, points):
    """One panel a k: recall (as digits of 1 - recall) against queries a second of one core."""
    width, height, left, top = 560, 420, 70, 50
    ks = sorted({p["k"] for p in points})
    names = sorted({p["engine"] for p in points}, key=lambda n: (not n.startswith("Gyre"), n))
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width * len(ks)}" height="{height + 40}" font-family="sans-serif" font-size="12">',
           '<rect width="100%" height="100%" fill="white"/>', f'<text x="{left}" y="22" font-size="15">{escaped(title)}, one core</text>']
    low = math.floor(math.log10(min(p["qps"] for p in points)))
    high = math.ceil(math.log10(max(p["qps"] for p in points)))
    marks = (0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999)

    def x_of(panel, recall):
        digits = -math.log10(1 - min(max(recall, marks[0]), marks[-1]))
        return panel * width + left + (digits + math.log10(0.5)) / (3 + math.log10(0.5)) * (width - left - 20)

    def y_of(qps):
        return height - 30 - (math.log10(qps) - low) / max(high - low, 1) * (height - 30 - top)

    for panel, k in enumerate(ks):
        for mark in marks:
            x = x_of(panel, mark)
            out.append(f'<path d="M{x:.1f} {top}V{height - 30}" stroke="#ddd"/><text x="{x:.1f}" y="{height - 14}" text-anchor="middle">{mark}</text>')
        for power in range(low, high + 1):
            y = y_of(10 ** power)
            out.append(f'<path d="M{panel * width + left} {y:.1f}H{(panel + 1) * width - 20}" stroke="#ddd"/>'
                       f'<text x="{panel * width + left - 6}" y="{y + 4:.1f}" text-anchor="end">{10 ** power:,}</text>')
        out.append(f'<text x="{panel * width + left}" y="{top - 8}">queries a second against recall@{k}</text>')
        for i, name in enumerate(names):
            colour = COLOURS[i % len(COLOURS)]
            along = [p for p in front([p for p in points if p["engine"] == name and p["k"] == k], "qps") if p["recall"] >= marks[0]]
            dots = [(x_of(panel, p["recall"]), y_of(p["qps"])) for p in along]
            if dots:
                out.append(f'<polyline points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in dots)}" fill="none" stroke="{colour}" stroke-width="2"/>')
            out += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in dots]
            if panel == 0:
                x = left + i * (width * len(ks) - left) / len(names)
                out.append(f'<rect x="{x:.1f}" y="{height + 8}" width="10" height="10" fill="{colour}"/>'
                           f'<text x="{x + 14:.1f}" y="{height + 18}" font-size="11">{escaped(name)}</text>')
    return "\n".join([*out, "</svg>"]) + "\n"


def escaped(text):
    return text.replace("&", "&amp;").replace("<", "&lt;")
