/* utf8: how far bytes are text that every language can read back. */
#ifndef GY_UTF8_H
#define GY_UTF8_H

#include <stddef.h>
#include <stdint.h>

/* Length of the longest prefix that is UTF-8 without NUL: no overlong forms, no surrogates, nothing above U+10FFFF
 * (RFC 3629, section 4). Equal to bytes when all of it is. */
size_t gy_utf8_prefix(const uint8_t *text, size_t bytes);

#endif
