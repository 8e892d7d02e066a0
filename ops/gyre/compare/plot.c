/* plot: recall of codes alone against bytes a vector, on a logarithmic axis, as SVG. A family is a line; filled points are codes with a
 * block scan, the rest are hollow. */
#include "cli.h"
#include "compare/compare.h"

#include <math.h>
#include <stdlib.h>

enum { WIDTH = 860, HEIGHT = 520, LEFT = 70, RIGHT = 200, TOP = 40, BOTTOM = 60 };

static const struct family {
    uint16_t kind;
    const char *name, *color;
} families[] = {
    {GYRE_RABITQ, "RaBitQ", "#1b6ca8"},        {GYRE_BLOCKQUANT, "BlockQuant", "#d1495b"}, {GYRE_ADDITIVE, "additive book", "#8c1c13"},
    {GYRE_SIGNBLOCK, "SignBlock", "#2a9d5c"},  {GYRE_TRELLIS, "trellis", "#c77d00"},       {GYRE_SIGNTRELLIS, "SignTrellis", "#8a5cc7"},
    {GYRE_EDEN, "EDEN", "#5b7b7a"},            {GYRE_TURBOQUANT, "TurboQuant", "#b05c8b"}, {GYRE_HAMMING, "Hamming", "#444444"},
    {GYRE_DITHERED, "dithered", "#9a8c5a"},    {GYRE_PQ, "PQ", "#00798c"},                 {GYRE_JL, "JL", "#999999"},
    {GYRE_SEGMENTS, "PCA segments", "#3d405b"},
};
enum { FAMILIES = sizeof families / sizeof *families };

struct axes {
    double bytes_low, bytes_high, recall_low;
};

static double x_of(const struct axes *axes, double bytes)
{
    return LEFT + log2(bytes / axes->bytes_low) / log2(axes->bytes_high / axes->bytes_low) * (WIDTH - LEFT - RIGHT);
}

static double y_of(const struct axes *axes, double recall)
{
    return TOP + (1 - recall) / (1 - axes->recall_low) * (HEIGHT - TOP - BOTTOM);
}

/* Powers of two around the bytes, a tenth below the least recall. */
static struct axes axes_of(const struct compare_result *results, size_t count)
{
    struct axes axes = {INFINITY, 0, 0.9};
    for (size_t i = 0; i < count; i++)
        if (!results[i].refusal[0]) {
            axes.bytes_low = fmin(axes.bytes_low, (double)results[i].row_bytes);
            axes.bytes_high = fmax(axes.bytes_high, (double)results[i].row_bytes);
            axes.recall_low = fmin(axes.recall_low, floor(results[i].recall_alone * 10) / 10);
        }
    if (!(axes.bytes_high > 0))
        axes.bytes_low = axes.bytes_high = 1;
    axes.bytes_low = exp2(floor(log2(axes.bytes_low)));
    axes.bytes_high = exp2(floor(log2(axes.bytes_high)) + 1);
    return axes;
}

static void draw_axes(const struct axes *axes, FILE *out)
{
    for (double bytes = axes->bytes_low; bytes <= axes->bytes_high; bytes *= 2)
        fprintf(out, "<path d='M%.1f %dV%d' stroke='#e4e4e4'/><text x='%.1f' y='%d' text-anchor='middle'>%.0f</text>\n", x_of(axes, bytes), TOP,
                HEIGHT - BOTTOM, x_of(axes, bytes), HEIGHT - BOTTOM + 18, bytes);
    int tenths = (int)lrint((1 - axes->recall_low) * 10);
    for (int i = 0; i <= tenths; i++) {
        double recall = 1 - i / 10.0;
        fprintf(out, "<path d='M%d %.1fH%d' stroke='#e4e4e4'/><text x='%d' y='%.1f' text-anchor='end'>%.1f</text>\n", LEFT, y_of(axes, recall),
                WIDTH - RIGHT, LEFT - 8, y_of(axes, recall) + 4, recall);
    }
    fprintf(out, "<text x='%d' y='%d' text-anchor='middle'>bytes a vector, factors included</text>\n", (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 16);
    fprintf(out, "<text transform='translate(20 %d) rotate(-90)' text-anchor='middle'>recall@%d of codes alone</text>\n",
            (TOP + HEIGHT - BOTTOM) / 2, COMPARE_K);
}

static int by_bytes(const void *a, const void *b)
{
    const struct compare_result *const *x = a, *const *y = b;
    return ((*x)->row_bytes > (*y)->row_bytes) - ((*x)->row_bytes < (*y)->row_bytes);
}

/* Variants of a family (fast, biased, …) are points beside its line. */
static void draw_family(const struct axes *axes, const struct family *family, const struct compare_result *results, size_t count,
                        const struct compare_result **members, int legend_row, FILE *out)
{
    size_t line = 0;
    for (size_t i = 0; i < count; i++) {
        const struct compare_result *r = &results[i];
        if (r->refusal[0] || r->codec->kind != family->kind)
            continue;
        double x = x_of(axes, (double)r->row_bytes), y = y_of(axes, r->recall_alone);
        fprintf(out, "<circle cx='%.1f' cy='%.1f' r='4' stroke='%s' fill='%s'><title>%s: %zu bytes, recall %.3f</title></circle>\n", x, y,
                family->color, gyre_codec_scans(r->codec) ? family->color : "white", r->codec->name, r->row_bytes, r->recall_alone);
        if (r->codec->variant == GYRE_VARIANT_NONE)
            members[line++] = r;
    }
    qsort(members, line, sizeof *members, by_bytes);
    for (size_t i = 0; i < line; i++)
        fprintf(out, "%s%.1f %.1f%s", i ? " L" : "<path fill='none' stroke-width='1.5' d='M", x_of(axes, (double)members[i]->row_bytes),
                y_of(axes, members[i]->recall_alone), i + 1 == line ? "'" : "");
    if (line)
        fprintf(out, " stroke='%s'/>\n", family->color);
    int y = TOP + 10 + 22 * legend_row;
    fprintf(out, "<circle cx='%d' cy='%d' r='5' fill='%s'/><text x='%d' y='%d'>%s</text>\n", WIDTH - RIGHT + 30, y, family->color,
            WIDTH - RIGHT + 44, y + 4, family->name);
}

void compare_plot(const struct compare_set *set, const struct compare_result *results, size_t count, FILE *out)
{
    struct axes axes = axes_of(results, count);
    const struct compare_result **members = cli_alloc(count, sizeof *members);
    fprintf(out, "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 %d %d' font-family='sans-serif' font-size='12'>\n", WIDTH, HEIGHT);
    fprintf(out, "<rect width='%d' height='%d' fill='white'/>\n", WIDTH, HEIGHT);
    fprintf(out, "<text x='%d' y='22' font-size='15'>%zu vectors of dim %u, %s, %zu queries</text>\n", LEFT, set->count, set->dim,
            gyre_metric_name(set->metric), set->query_count);
    draw_axes(&axes, out);
    int legend_row = 0;
    for (size_t f = 0; f < FAMILIES; f++)
        for (size_t i = 0; i < count; i++)
            if (!results[i].refusal[0] && results[i].codec->kind == families[f].kind) {
                draw_family(&axes, &families[f], results, count, members, legend_row++, out);
                break;
            }
    fprintf(out, "<text x='%d' y='%d' fill='#666'>filled: with a block scan</text>\n</svg>\n", WIDTH - RIGHT + 22, TOP + 20 + 22 * legend_row);
    free(members);
}
