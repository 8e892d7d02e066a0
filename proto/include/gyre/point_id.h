/* point_id: a point's name: a u64 or a UUID, as 16 bytes that sort.
 *
 * A number is 8 zero bytes and its big-endian value; a UUID is its 16 bytes, whose version nibble (1…8) lies in the first
 * half, so the two never meet. memcmp is the total order of answers: numbers by value, then UUIDs. */
#ifndef GYRE_POINT_ID_H
#define GYRE_POINT_ID_H

#include "gyre/base.h"

enum { GYRE_ID_BYTES = 16, GYRE_UUID_TEXT_BYTES = 37 };

typedef struct gyre_point_id {
    uint8_t bytes[GYRE_ID_BYTES];
} gyre_point_id;

gyre_point_id gyre_point_id_from_number(uint64_t number);
/* Reads the 36-character text form, either case. GYRE_INVALID if it is no UUID of version 1 to 8. */
GYRE_CHECKED gyre_status gyre_point_id_from_uuid(gyre_point_id *out, const char *text, gyre_error *err);
/* Reads what a person types: digits, or a UUID. */
GYRE_CHECKED gyre_status gyre_point_id_parse(gyre_point_id *out, const char *text, gyre_error *err);
/* Checks 16 bytes from wire or disk. */
GYRE_CHECKED gyre_status gyre_point_id_check(const uint8_t bytes[GYRE_ID_BYTES], gyre_error *err);

bool gyre_point_id_is_number(const gyre_point_id *id);
uint64_t gyre_point_id_number(const gyre_point_id *id); /* only if _is_number */
/* Writes digits or lower-case UUID text, terminated; returns out. */
char *gyre_point_id_format(const gyre_point_id *id, char out[GYRE_UUID_TEXT_BYTES]);
static inline int gyre_point_id_compare(const gyre_point_id *a, const gyre_point_id *b)
{
    return memcmp(a->bytes, b->bytes, GYRE_ID_BYTES);
}

#endif
