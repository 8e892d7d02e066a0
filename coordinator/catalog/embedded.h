/* embedded: what a migration needs of that backend besides the slots. */
#ifndef GY_CATALOG_EMBEDDED_H
#define GY_CATALOG_EMBEDDED_H

#include "catalog/catalog.h"

enum { GY_MOVED_TO_BYTES_MAX = 1024 };

/* As gy_catalog_embedded_open, but also one that has moved; moved_to is then where, else "". */
GYRE_CHECKED gyre_status gy_embedded_open_moved(gy_catalog **out, const char *path,
                                                char moved_to[static GY_MOVED_TO_BYTES_MAX + 1], gyre_error *err);
/* Marks it as moved: from now on nobody opens it, older versions neither, for its format number grows. */
GYRE_CHECKED gyre_status gy_embedded_mark_moved(gy_catalog *catalog, const char *moved_to, gyre_error *err);
/* Whether a catalog is at path. */
bool gy_embedded_exists(const char *path);

#endif
