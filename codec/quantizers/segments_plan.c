/* segments_plan: the narrowest bound on <g,r> within a budget of bytes, by dynamic programming.
 *
 * A segment of n components with the variances v_i, E = sum v_i, is rotated within itself, so its error is as if all had E/n: for
 * a query of the same distribution, of variance (E^2/n)·t(B), with t(B) = mean kappa^2 of the grid code of B bits. What is
 * dropped adds at most R_0·G_0, on average the sum of its variances. So with A the sum of the former and E_0 the latter, the half
 * width of a bound is
 *     epsilon·sqrt(A) + E_0
 * (this codec's own reckoning; SAQ, arXiv 2509.12086, splits and allots by a similar one, of the squared error alone: that drops
 * more, and bounds suffer). least[k][b] is the least A of the components before position k within b bytes; its last segment
 * starts at an earlier position and has one of eight widths. */
#include "quantizers/segments_plan.h"

#include <math.h>
#include <stdlib.h>

/* Mean kappa^2 of Extended RaBitQ at 0 to 8 bits, dim 128 to 768 (codec/MATH.md section 5; 5 to 7 measured). */
static const double tan2[GY_SEGMENT_BITS_MAX + 1] = {1, .57, .132, .0375, .0108, .0031, .00088, .00026, .00007};
/* Of the bound whose width counts: a neighbour is lost once in about 160 (codec/MATH.md section 0). */
static const double epsilon = 2.5;
/* Segments start at multiples of so many components: narrower ones would cost more in factors than they gain. */
enum { GRAIN = 16 };

struct choice {
    uint8_t from, bits; /* of the last segment: the position it starts at */
};

struct search {
    size_t budget;
    uint32_t position_count;
    uint32_t position[GY_SEGMENTS_MAX + 1];
    double sum[GY_SEGMENTS_MAX + 1]; /* of the variances before a position, as shares of all */
    double *least;                   /* [position_count][budget + 1] */
    struct choice *choice;
};

size_t gy_segments_plan_bytes(const struct gy_segments_plan *plan, uint32_t dim)
{
    size_t bytes = plan->rows < dim ? GY_REST_BYTES : 0;
    for (uint32_t s = 0; s < plan->count; s++)
        bytes += GY_SEGMENT_FACTOR_BYTES + gy_segment_code_bytes(plan->dims[s], plan->bits[s]);
    return bytes;
}

static void place_positions(struct search *search, const double *variances, uint32_t dim)
{
    uint32_t grain = (dim + GRAIN * GY_SEGMENTS_MAX - 1) / (GRAIN * GY_SEGMENTS_MAX) * GRAIN, count = 1;
    while (count * grain + grain <= dim) { /* the last segment has at least a grain */
        search->position[count] = count * grain;
        count++;
    }
    search->position[count++] = dim;
    search->position_count = count;
    double sum = 0, total = 0;
    for (uint32_t i = 0; i < dim; i++)
        total += variances[i];
    for (uint32_t i = 0, k = 0; i <= dim; i++) {
        if (i == search->position[k])
            search->sum[k++] = sum;
        sum += i < dim && total > 0 ? variances[i] / total : 0;
    }
}

/* Position k from position j at every width and budget. */
static void extend(struct search *search, uint32_t j, uint32_t k)
{
    uint32_t dims = search->position[k] - search->position[j];
    double energy = search->sum[k] - search->sum[j], weight = energy * energy / dims;
    const double *from = search->least + j * (search->budget + 1);
    double *to = search->least + k * (search->budget + 1);
    struct choice *choice = search->choice + k * (search->budget + 1);
    for (uint32_t bits = 1; bits <= GY_SEGMENT_BITS_MAX; bits++) {
        size_t bytes = gy_segment_code_bytes(dims, bits) + GY_SEGMENT_FACTOR_BYTES;
        for (size_t b = bytes; b <= search->budget; b++) {
            double error = from[b - bytes] + weight * tan2[bits];
            if (error < to[b]) {
                to[b] = error;
                choice[b] = (struct choice){(uint8_t)j, (uint8_t)bits};
            }
        }
    }
}

/* The plan that ends at position k within so many bytes. */
static void trace(const struct search *search, uint32_t k, size_t bytes, struct gy_segments_plan *plan)
{
    struct gy_segments_plan reversed = {.rows = search->position[k]};
    while (k > 0) {
        struct choice choice = search->choice[k * (search->budget + 1) + bytes];
        /* cppcheck-suppress arrayIndexOutOfBoundsCond; k and choice.from are below position_count */
        uint32_t dims = search->position[k] - search->position[choice.from];
        reversed.dims[reversed.count] = (uint16_t)dims;
        reversed.bits[reversed.count++] = choice.bits;
        bytes -= gy_segment_code_bytes(dims, choice.bits) + GY_SEGMENT_FACTOR_BYTES;
        k = choice.from;
    }
    *plan = (struct gy_segments_plan){.count = reversed.count, .rows = reversed.rows};
    for (uint32_t s = 0; s < plan->count; s++) {
        plan->dims[s] = reversed.dims[plan->count - 1 - s];
        plan->bits[s] = reversed.bits[plan->count - 1 - s];
    }
}

static void choose(struct search *search, struct gy_segments_plan *plan)
{
    uint32_t last = search->position_count - 1, best = last;
    for (size_t i = 0; i < search->position_count * (search->budget + 1); i++)
        search->least[i] = i <= search->budget ? 0 : INFINITY;
    for (uint32_t k = 1; k <= last; k++)
        for (uint32_t j = 0; j < k; j++)
            extend(search, j, k);
    double narrowest = epsilon * sqrt(search->least[last * (search->budget + 1) + search->budget]);
    for (uint32_t k = 1; k < last; k++) {
        double kept = search->least[k * (search->budget + 1) + search->budget - GY_REST_BYTES];
        double width = epsilon * sqrt(kept) + search->sum[last] - search->sum[k];
        if (width < narrowest) {
            narrowest = width;
            best = k;
        }
    }
    trace(search, best, search->budget - (best < last ? GY_REST_BYTES : 0), plan);
}

gyre_status gy_segments_plan_make(struct gy_segments_plan *plan, const double *variances, uint32_t dim, size_t code_bytes,
                                  gyre_error *err)
{
    struct search search = {.budget = code_bytes};
    place_positions(&search, variances, dim);
    size_t cells = search.position_count * (code_bytes + 1);
    search.least = malloc(cells * sizeof *search.least);
    search.choice = malloc(cells * sizeof *search.choice);
    gyre_status status = GYRE_OK;
    if (search.least && search.choice)
        choose(&search, plan);
    else
        status = gyre_fail(err, GYRE_NO_MEMORY, "a plan of %zu bytes for dim %u", code_bytes, dim);
    free(search.least), free(search.choice);
    return status;
}
