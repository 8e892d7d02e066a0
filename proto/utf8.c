#include "utf8.h"

#include <string.h>

/* Bytes of the sequence that starts at text, or 0 if it is none. The second byte's range depends on the first; the ranges
 * are the table of RFC 3629, section 4. */
static size_t sequence_bytes(const uint8_t *text, size_t bytes)
{
    uint8_t first = text[0];
    size_t length = first < 0x80 ? 1 : first < 0xc2 ? 0 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : first < 0xf5 ? 4 : 0;
    if (first == 0 || length == 0 || length > bytes)
        return 0;
    uint8_t low = 0x80;
    uint8_t high = 0xbf;
    if (first == 0xe0)
        low = 0xa0; /* below: overlong */
    else if (first == 0xed)
        high = 0x9f; /* above: surrogates */
    else if (first == 0xf0)
        low = 0x90; /* below: overlong */
    else if (first == 0xf4)
        high = 0x8f; /* above: beyond U+10FFFF */
    for (size_t i = 1; i < length; i++, low = 0x80, high = 0xbf)
        if (text[i] < low || text[i] > high)
            return 0;
    return length;
}

/* Whether 8 bytes are all ASCII and none is NUL: most text is, and is then checked a word at a time. */
static int eight_plain(const uint8_t *text)
{
    uint64_t word;
    memcpy(&word, text, sizeof word);
    const uint64_t tops = UINT64_C(0x8080808080808080);
    /* With no top bit set, subtracting 1 from each byte sets a top bit exactly when some byte is 0. */
    return !(word & tops) && !((word - UINT64_C(0x0101010101010101)) & tops);
}

size_t gy_utf8_prefix(const uint8_t *text, size_t bytes)
{
    size_t at = 0;
    while (at < bytes) {
        if (bytes - at >= 8 && eight_plain(text + at)) {
            at += 8;
            continue;
        }
        size_t length = sequence_bytes(text + at, bytes - at);
        if (!length)
            break;
        at += length;
    }
    return at;
}
