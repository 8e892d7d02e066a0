#include "trellis/tables.h"

const struct gy_trellis_table *gy_trellis_table_find(uint32_t kind, uint32_t window, uint32_t fresh)
{
    for (size_t i = 0; i < gy_trellis_table_count; i++) {
        const struct gy_trellis_table *table = &gy_trellis_tables[i];
        if (table->kind == kind && table->window == window && table->fresh == fresh)
            return table;
    }
    return NULL;
}
