/* progress: see progress.h. */
#include "progress.h"

#include "output.h"

#include <unistd.h>

enum { BAR_WIDTH = 24, TERMINAL_INTERVAL_MS = 100, PLAIN_INTERVAL_MS = 3000 };

void progress_init(struct progress *progress, FILE *out, bool quiet, const char *verb, const char *unit, uint64_t total)
{
    *progress = (struct progress){
        .out = out,
        .terminal = isatty(fileno(out)) == 1,
        .quiet = quiet,
        .verb = verb,
        .unit = unit,
        .total = total,
        .started_ns = gy_now_ns(),
    };
}

int64_t progress_interval_ns(const struct progress *progress)
{
    return (progress->terminal && !progress->quiet ? TERMINAL_INTERVAL_MS : PLAIN_INTERVAL_MS) * GY_MILLISECOND_NS;
}

char *progress_text(const struct progress *progress, uint64_t done, int64_t now_ns, char out[PROGRESS_TEXT_BYTES])
{
    char done_text[NUMBER_TEXT_BYTES], total_text[NUMBER_TEXT_BYTES], rate_text[NUMBER_TEXT_BYTES], left_text[NUMBER_TEXT_BYTES];
    double seconds = (double)(now_ns - progress->started_ns) / (double)GY_SECOND_NS;
    double rate = seconds > 0 ? (double)done / seconds : 0;
    number_text(done, done_text);
    number_text((uint64_t)rate, rate_text);
    if (progress->total == 0 || done > progress->total) {
        snprintf(out, PROGRESS_TEXT_BYTES, "%s %s %s, %s/s", progress->verb, done_text, progress->unit, rate_text);
        return out;
    }
    unsigned percent = (unsigned)((double)done / (double)progress->total * 100);
    number_text(progress->total, total_text);
    if (done == 0)
        snprintf(out, PROGRESS_TEXT_BYTES, "%s %s of %s %s (%u%%)", progress->verb, done_text, total_text, progress->unit, percent);
    else
        snprintf(out, PROGRESS_TEXT_BYTES, "%s %s of %s %s (%u%%), %s/s, %s left", progress->verb, done_text, total_text,
                 progress->unit, percent, rate_text, duration_text((double)(progress->total - done) / rate, left_text));
    return out;
}

/* Whether it is time for another line; if so, it counts as shown. */
static bool is_due(struct progress *progress, int64_t now_ns)
{
    int64_t last_ns = progress->shown_ns ? progress->shown_ns : progress->started_ns;
    if (progress->quiet || now_ns - last_ns < progress_interval_ns(progress))
        return false;
    progress->shown_ns = now_ns;
    return true;
}

void progress_say(struct progress *progress, const char *text)
{
    if (!is_due(progress, gy_now_ns()))
        return;
    fprintf(progress->out, progress->terminal ? "\r%s\033[K" : "%s\n", text);
    fflush(progress->out);
}

void progress_show(struct progress *progress, uint64_t done)
{
    int64_t now_ns = gy_now_ns();
    if (!is_due(progress, now_ns))
        return;
    char text[PROGRESS_TEXT_BYTES];
    progress_text(progress, done, now_ns, text);
    if (!progress->terminal) {
        fprintf(progress->out, "%s\n", text);
    } else if (progress->total) {
        char bar[BAR_WIDTH + 1];
        size_t filled = done >= progress->total ? BAR_WIDTH : (size_t)((double)done / (double)progress->total * BAR_WIDTH);
        memset(bar, '#', filled);
        memset(bar + filled, '.', BAR_WIDTH - filled);
        bar[BAR_WIDTH] = '\0';
        fprintf(progress->out, "\r[%s] %s\033[K", bar, text);
    } else {
        fprintf(progress->out, "\r%s\033[K", text);
    }
    fflush(progress->out);
}

void progress_end(struct progress *progress)
{
    if (!progress->quiet && progress->terminal && progress->shown_ns) {
        fprintf(progress->out, "\r\033[K");
        fflush(progress->out);
    }
}
