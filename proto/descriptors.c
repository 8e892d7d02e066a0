/* The compiled schemas, placed into the program by the assembler: no generator between protoc and the bytes. */
#include "gyre/rpc.h"

__asm__(".pushsection .rodata\n"
        ".global gyre_v1_descriptors\n"
        ".global gyre_v1_descriptors_bytes\n"
        "gyre_v1_descriptors:\n"
        ".incbin \"" GYRE_DESCRIPTORS_FILE "\"\n"
        "0:\n"
        ".balign 8\n"
        "gyre_v1_descriptors_bytes:\n"
        ".quad 0b - gyre_v1_descriptors\n"
        ".popsection\n");

_Static_assert(sizeof(size_t) == 8, "gyre_v1_descriptors_bytes is written as 8 bytes");
