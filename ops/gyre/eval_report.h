/* eval_report: what `eval` says of one measurement, or of some with different recalls. */
#ifndef GY_EVAL_REPORT_H
#define GY_EVAL_REPORT_H

#include "output.h"
#include "tally.h"

/* How one measurement was asked for. */
struct eval_asked {
    size_t k, threads, batch;
    double recall_target; /* 0: the server's default */
    uint32_t nprobe;      /* 0: by recall */
    double seconds;       /* that it took */
};

/* One measurement as a page of its own, on out. Sorts the tally's times. */
void eval_print(const struct eval_asked *asked, struct tally *tally, FILE *out);
/* One measurement as JSON. Sorts the tally's times. */
json_t *eval_json(const struct eval_asked *asked, struct tally *tally);

/* The columns of several measurements side by side, and the row of one. Sorts the tally's times. */
struct table eval_table(void);
void eval_table_add(struct table *table, const struct eval_asked *asked, struct tally *tally);

#endif
