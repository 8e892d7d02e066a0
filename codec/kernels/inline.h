/* inline: what makes a loop over an array of registers into registers, under gcc and clang. */
#ifndef GY_KERNELS_INLINE_H
#define GY_KERNELS_INLINE_H

/* For functions whose parameters are constants at every call. */
#define GY_INLINE static inline __attribute__((always_inline))

/* Before a loop of at most count rounds: all of them in a row, so that what they index is known. */
#define GY_PRAGMA(text) _Pragma(#text)
#ifdef __clang__
#define GY_UNROLL(count) GY_PRAGMA(clang loop unroll(full))
#else
#define GY_UNROLL(count) GY_PRAGMA(GCC unroll count)
#endif

#endif
