/* status: what can fail returns a code for the program and leaves a sentence for the person.
 *
 * One list for the whole house. The numbers are gRPC's (google.rpc.Code), so that no border needs judgement: what a shard
 * says is what the client reads. */
#ifndef GYRE_STATUS_H
#define GYRE_STATUS_H

#ifdef __cplusplus
extern "C" {
#endif

typedef enum gyre_status {
    GYRE_OK = 0,
    GYRE_CANCELLED = 1,
    GYRE_UNKNOWN = 2,
    GYRE_INVALID = 3,       /* the request is wrong whatever the state: names the field and the limit */
    GYRE_DEADLINE = 4,      /* the caller's time ran out; the work may or may not have happened */
    GYRE_NOT_FOUND = 5,
    GYRE_EXISTS = 6,
    GYRE_DENIED = 7,
    GYRE_EXHAUSTED = 8,     /* a stated limit of memory, disk or queue is reached; later may work */
    GYRE_NO_MEMORY = 8,
    GYRE_PRECONDITION = 9,  /* right request, wrong state: retrying does not help until something changes */
    GYRE_ABORTED = 10,      /* lost a race (epoch, compare-and-set); read again and retry */
    GYRE_OUT_OF_RANGE = 11,
    GYRE_UNIMPLEMENTED = 12,
    GYRE_INTERNAL = 13,
    GYRE_UNAVAILABLE = 14,  /* a part that is needed cannot be reached now; retry with back-off */
    GYRE_CORRUPT = 15,      /* stored or received bytes are not what they claim to be (gRPC DATA_LOSS) */
    GYRE_UNAUTHENTICATED = 16,
} gyre_status;

enum { GYRE_ERROR_TEXT_BYTES = 512 };

/* The sentence, owned by the caller; NULL is accepted wherever one is taken. Cut off at its size, always terminated. */
typedef struct gyre_error {
    gyre_status status;
    char text[GYRE_ERROR_TEXT_BYTES];
} gyre_error;

/* Writes status and sentence into err (may be NULL) and returns status, so that `return gyre_fail(…)` reads well. */
gyre_status gyre_fail(gyre_error *err, gyre_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Puts "context: " in front of the sentence that is there and returns its status. err->status must not be GYRE_OK. */
gyre_status gyre_wrap(gyre_error *err, gyre_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* "INVALID_ARGUMENT", "UNAVAILABLE", …: gRPC's names. Unknown numbers give "UNKNOWN". Static storage. */
const char *gyre_status_name(gyre_status status);

#ifdef __cplusplus
}
#endif
#endif
