/* output: see output.h. */
#include "output.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>

char *text_harmless(char *text)
{
    uint8_t *p = (uint8_t *)text;
    for (; *p; p++) {
        if (*p < 0x20 || *p == 0x7f)
            *p = '?';
        else if (*p == 0xc2 && p[1] >= 0x80 && p[1] < 0xa0) /* U+0080…U+009F, among them CSI */
            p[0] = p[1] = '?', p++;
    }
    return text;
}

void table_add(struct table *table, const char *format, ...)
{
    table->cells = cli_resize(table->cells, table->cell_count + 1, sizeof *table->cells);
    char *cell = NULL;
    va_list list;
    va_start(list, format);
    if (vasprintf(&cell, format, list) < 0) {
        cell = cli_alloc(2, 1);
        cell[0] = '?';
    }
    va_end(list);
    table->cells[table->cell_count++] = text_harmless(cell);
}

/* Columns on the screen: UTF-8 continuation bytes take none. */
static size_t text_width(const char *text)
{
    size_t width = 0;
    for (; *text; text++)
        width += ((uint8_t)*text & 0xc0) != 0x80;
    return width;
}

static void print_row(const struct table *table, const size_t *widths, char *const *cells, FILE *out)
{
    for (size_t c = 0; c < table->column_count; c++) {
        const char *text = cells ? cells[c] : table->columns[c].name;
        size_t gap = widths[c] - text_width(text);
        if (table->columns[c].right)
            fprintf(out, "%*s%s", (int)gap, "", text);
        else if (c + 1 < table->column_count)
            fprintf(out, "%s%*s", text, (int)gap, "");
        else
            fputs(text, out);
        fputs(c + 1 < table->column_count ? "  " : "\n", out);
    }
}

void table_print(struct table *table, FILE *out)
{
    size_t rows = table->cell_count / table->column_count;
    size_t *widths = cli_alloc(table->column_count, sizeof *widths);
    for (size_t c = 0; c < table->column_count; c++) {
        widths[c] = text_width(table->columns[c].name);
        for (size_t r = 0; r < rows; r++) {
            size_t width = text_width(table->cells[r * table->column_count + c]);
            if (width > widths[c])
                widths[c] = width;
        }
    }
    if (rows)
        print_row(table, widths, NULL, out);
    for (size_t r = 0; r < rows; r++)
        print_row(table, widths, table->cells + r * table->column_count, out);
    free(widths);
    for (size_t i = 0; i < table->cell_count; i++)
        free(table->cells[i]);
    free(table->cells);
    table->cells = NULL;
    table->cell_count = 0;
}

char *number_text(uint64_t number, char out[NUMBER_TEXT_BYTES])
{
    char digits[24];
    int length = snprintf(digits, sizeof digits, "%" PRIu64, number);
    char *to = out;
    for (int i = 0; i < length; i++) {
        if (i && (length - i) % 3 == 0)
            *to++ = ',';
        *to++ = digits[i];
    }
    *to = '\0';
    return out;
}

char *bytes_text(uint64_t bytes, char out[NUMBER_TEXT_BYTES])
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    double value = (double)bytes;
    size_t unit = 0;
    for (; value >= 1024 && unit < 6; unit++)
        value /= 1024;
    snprintf(out, NUMBER_TEXT_BYTES, unit ? "%.1f %s" : "%.0f %s", value, units[unit]);
    return out;
}

char *duration_text(double seconds, char out[NUMBER_TEXT_BYTES])
{
    if (!(seconds < 360000)) { /* also infinite and NaN */
        snprintf(out, NUMBER_TEXT_BYTES, "days");
        return out;
    }
    unsigned long whole = (unsigned long)(seconds + 0.5);
    if (whole >= 3600)
        snprintf(out, NUMBER_TEXT_BYTES, "%lu:%02lu:%02lu", whole / 3600, whole / 60 % 60, whole % 60);
    else
        snprintf(out, NUMBER_TEXT_BYTES, "%lu:%02lu", whole / 60, whole % 60);
    return out;
}

static void write_with(json_t *value, size_t flags, FILE *out)
{
    if (!value || json_dumpf(value, out, flags | JSON_REAL_PRECISION(9) | JSON_ENCODE_ANY) != 0)
        fprintf(stderr, "gyre: the answer cannot be written as JSON\n");
    fputc('\n', out);
    json_decref(value);
}

void json_write(json_t *value, FILE *out)
{
    write_with(value, JSON_INDENT(2), out);
}

void json_write_line(json_t *value, FILE *out)
{
    write_with(value, JSON_COMPACT, out);
}

json_t *json_point_id(const Gyre__V1__PointId *id)
{
    char text[ID_TEXT_BYTES];
    if (id && id->id_case == GYRE__V1__POINT_ID__ID_NUM && id->num <= INT64_MAX)
        return json_integer((json_int_t)id->num);
    return json_string(point_id_text(id, text));
}

json_t *json_payload(const char *payload)
{
    if (!payload || !*payload)
        return json_null();
    json_t *value = json_loads(payload, JSON_DECODE_ANY, NULL);
    if (!value)
        value = json_string(payload);
    return value ? value : json_null();
}

json_t *json_vector(const float *vector, size_t dim)
{
    json_t *list = json_array();
    for (size_t i = 0; i < dim; i++)
        json_array_append_new(list, json_real((double)vector[i]));
    return list;
}

char *point_id_text(const Gyre__V1__PointId *id, char out[ID_TEXT_BYTES])
{
    if (id && id->id_case == GYRE__V1__POINT_ID__ID_NUM)
        snprintf(out, ID_TEXT_BYTES, "%" PRIu64, id->num);
    else if (id && id->id_case == GYRE__V1__POINT_ID__ID_UUID && id->uuid)
        snprintf(out, ID_TEXT_BYTES, "%s", id->uuid);
    else
        snprintf(out, ID_TEXT_BYTES, "?");
    return text_harmless(out);
}

gyre_status point_id_read(Gyre__V1__PointId *out, char uuid[GYRE_UUID_TEXT_BYTES], const char *text, gyre_error *err)
{
    gyre_point_id id;
    GY_TRY(gyre_point_id_parse(&id, text, err));
    gyre__v1__point_id__init(out);
    if (gyre_point_id_is_number(&id)) {
        out->id_case = GYRE__V1__POINT_ID__ID_NUM;
        out->num = gyre_point_id_number(&id);
    } else {
        out->id_case = GYRE__V1__POINT_ID__ID_UUID;
        out->uuid = gyre_point_id_format(&id, uuid);
    }
    return GYRE_OK;
}
