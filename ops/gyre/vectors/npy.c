/* npy: NumPy's header: magic, version, length, and the text of a Python dict of exactly three keys:
 *     {'descr': '<f4', 'fortran_order': False, 'shape': (40000, 100), }
 *
 * Only what numpy.save writes for a two-dimensional array of numbers is read; any other Python is refused.
 * Source   numpy.lib.format: 1.0 has a u16 length, 2.0 and 3.0 a u32; 3.0's text is UTF-8 */
#include "vectors_internal.h"

#include <inttypes.h>

enum {
    MAGIC_BYTES = 6,
    HEADER_BYTES_MAX = 65536, /* numpy's is under 200 for an array of numbers */
    WORD_BYTES = 24,
    AXES_MAX = 32,            /* numpy's limit */
};

/* The text being read, and what it said. */
struct header {
    const char *at, *end;
    char descr[WORD_BYTES];
    bool fortran_order;
    uint64_t shape[AXES_MAX];
    size_t axes;
    bool has_descr, has_order, has_shape;
};

static void skip_blanks(struct header *h)
{
    while (h->at < h->end && (*h->at == ' ' || *h->at == '\n' || *h->at == '\t' || *h->at == '\r'))
        h->at++;
}

/* Takes this character, after blanks. */
static bool take(struct header *h, char c)
{
    skip_blanks(h);
    if (h->at == h->end || *h->at != c)
        return false;
    h->at++;
    return true;
}

static bool take_string(struct header *h, char out[WORD_BYTES])
{
    skip_blanks(h);
    if (h->at == h->end || (*h->at != '\'' && *h->at != '"'))
        return false;
    char quote = *h->at++;
    const char *close = memchr(h->at, quote, (size_t)(h->end - h->at));
    size_t chars = close ? (size_t)(close - h->at) : WORD_BYTES;
    if (chars >= WORD_BYTES || memchr(h->at, '\\', chars))
        return false;
    memcpy(out, h->at, chars);
    out[chars] = 0;
    h->at = close + 1;
    return true;
}

static bool take_word(struct header *h, const char *word)
{
    size_t chars = strlen(word);
    if ((size_t)(h->end - h->at) < chars || memcmp(h->at, word, chars) != 0)
        return false;
    h->at += chars;
    return true;
}

static bool take_bool(struct header *h, bool *out)
{
    skip_blanks(h);
    *out = take_word(h, "True");
    return *out || take_word(h, "False");
}

static bool take_number(struct header *h, uint64_t *out)
{
    skip_blanks(h);
    const char *start = h->at;
    for (*out = 0; h->at < h->end && *h->at >= '0' && *h->at <= '9'; h->at++) {
        if (__builtin_mul_overflow(*out, 10u, out) || __builtin_add_overflow(*out, (uint64_t)(*h->at - '0'), out))
            return false;
    }
    return h->at > start;
}

static bool take_shape(struct header *h)
{
    if (!take(h, '('))
        return false;
    while (!take(h, ')')) {
        if (h->axes == AXES_MAX || !take_number(h, &h->shape[h->axes]))
            return false;
        h->axes++;
        if (!take(h, ','))
            return take(h, ')');
    }
    return true;
}

static gyre_status take_entry(struct header *h, gyre_error *err)
{
    char key[WORD_BYTES];
    if (!take_string(h, key) || !take(h, ':'))
        return gyre_fail(err, GYRE_CORRUPT, "npy header: a quoted key and ':' are expected");
    bool *seen = strcmp(key, "descr") == 0           ? &h->has_descr
                 : strcmp(key, "fortran_order") == 0 ? &h->has_order
                 : strcmp(key, "shape") == 0         ? &h->has_shape
                                                     : NULL;
    if (!seen || *seen)
        return gyre_fail(err, GYRE_CORRUPT, "npy header: key '%s' is %s", key, seen ? "there twice" : "none of descr, fortran_order, shape");
    *seen = true;
    if (seen == &h->has_descr && !take_string(h, h->descr))
        return gyre_fail(err, GYRE_INVALID, "npy header: descr is no plain number type; supported are '<f4', '<f2', '<f8', '|u1'");
    if (seen == &h->has_order && !take_bool(h, &h->fortran_order))
        return gyre_fail(err, GYRE_CORRUPT, "npy header: fortran_order is neither True nor False");
    if (seen == &h->has_shape && !take_shape(h))
        return gyre_fail(err, GYRE_CORRUPT, "npy header: shape is no tuple of at most %d numbers", AXES_MAX);
    return GYRE_OK;
}

static gyre_status parse_dict(struct header *h, gyre_error *err)
{
    if (!take(h, '{'))
        return gyre_fail(err, GYRE_CORRUPT, "npy header: '{' is expected");
    while (!take(h, '}')) {
        GY_TRY(take_entry(h, err));
        if (!take(h, ',') && (h->at == h->end || *h->at != '}'))
            return gyre_fail(err, GYRE_CORRUPT, "npy header: ',' or '}' is expected");
    }
    skip_blanks(h);
    if (h->at != h->end)
        return gyre_fail(err, GYRE_CORRUPT, "npy header: %zu bytes after its '}'", (size_t)(h->end - h->at));
    if (!h->has_descr || !h->has_order || !h->has_shape)
        return gyre_fail(err, GYRE_CORRUPT, "npy header: '%s' is missing", !h->has_descr ? "descr" : !h->has_order ? "fortran_order" : "shape");
    return GYRE_OK;
}

static gyre_status choose_element(const char *descr, gy_element *out, gyre_error *err)
{
    static const struct {
        const char *descr;
        gy_element element;
    } known[] = {{"<f4", GY_ELEMENT_F4}, {"<f2", GY_ELEMENT_F2}, {"<f8", GY_ELEMENT_F8}, {"|u1", GY_ELEMENT_U1}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (strcmp(descr, known[i].descr) == 0) {
            *out = known[i].element;
            return GYRE_OK;
        }
    }
    return gyre_fail(err, GYRE_INVALID, "npy header: descr '%s' is not supported; '<f4', '<f2', '<f8' and '|u1' are%s", descr,
                     descr[0] == '>' ? " (this one is big-endian)" : "");
}

/* Reads magic, version and length; leaves the file at the dict. */
static gyre_status read_preamble(FILE *file, uint64_t file_bytes, size_t *text_offset, size_t *text_bytes, gyre_error *err)
{
    uint8_t start[MAGIC_BYTES + 2], length[4] = {0};
    GY_TRY(gy_read_exactly(file, start, sizeof start, "the npy magic", err));
    if (memcmp(start, "\x93NUMPY", MAGIC_BYTES) != 0)
        return gyre_fail(err, GYRE_CORRUPT, "not an npy file: it does not start with \\x93NUMPY");
    unsigned major = start[MAGIC_BYTES], minor = start[MAGIC_BYTES + 1];
    if (major < 1 || major > 3 || minor != 0)
        return gyre_fail(err, GYRE_INVALID, "npy version %u.%u is not supported; 1.0, 2.0 and 3.0 are", major, minor);
    size_t length_bytes = major == 1 ? 2 : 4;
    GY_TRY(gy_read_exactly(file, length, length_bytes, "the npy header's length", err));
    *text_offset = sizeof start + length_bytes;
    *text_bytes = gy_load_u32(length);
    if (*text_bytes > HEADER_BYTES_MAX)
        return gyre_fail(err, GYRE_INVALID, "npy header of %zu bytes; %d is the limit", *text_bytes, HEADER_BYTES_MAX);
    if (*text_offset + *text_bytes > file_bytes)
        return gyre_fail(err, GYRE_CORRUPT, "truncated: the npy header ends at byte %zu, the file at %" PRIu64, *text_offset + *text_bytes, file_bytes);
    return GYRE_OK;
}

gyre_status gy_npy_header(FILE *file, uint64_t file_bytes, struct gy_vectors_layout *layout, gyre_error *err)
{
    size_t text_offset = 0, text_bytes = 0;
    GY_TRY(read_preamble(file, file_bytes, &text_offset, &text_bytes, err));
    char text[HEADER_BYTES_MAX];
    GY_TRY(gy_read_exactly(file, text, text_bytes, "the npy header", err));
    struct header h = {.at = text, .end = text + text_bytes};
    GY_TRY(parse_dict(&h, err));

    struct gy_vectors_layout found = {.data_offset = text_offset + text_bytes};
    GY_TRY(choose_element(h.descr, &found.element, err));
    if (h.axes != 2)
        return gyre_fail(err, GYRE_INVALID, "npy header: shape has %zu axes; 2 are expected: rows, dim", h.axes);
    if (h.fortran_order && h.shape[0] > 1 && h.shape[1] > 1)
        return gyre_fail(err, GYRE_INVALID, "npy header: fortran_order is True; save with numpy.ascontiguousarray first");
    GY_TRY(gy_vectors_check_dim(h.shape[1] > INT64_MAX ? INT64_MAX : (int64_t)h.shape[1], err));
    found.count = h.shape[0];
    found.dim = (size_t)h.shape[1];
    GY_TRY(gy_vectors_check_size(&found, file_bytes, err));
    *layout = found;
    return GYRE_OK;
}
