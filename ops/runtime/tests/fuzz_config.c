/* fuzz_config: any bytes as a configuration file. */
#include "config_internal.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct gy_option options[] = {
    {"listen", GY_OPTION_TEXT, 0, "", 0, 0, NULL, ""},
    {"memory", GY_OPTION_BYTES, 0, "1", 0, 0, NULL, ""},
    {"threads", GY_OPTION_COUNT, 0, "1", 1, 64, NULL, ""},
    {"grace-ms", GY_OPTION_MILLIS, 0, "1", 0, 0, NULL, ""},
    {"verbose", GY_OPTION_SWITCH, 0, "off", 0, 0, NULL, ""},
};
static const struct gy_program program = {"gyre-shard", "", "", options, sizeof options / sizeof *options};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct gy_given given[sizeof options / sizeof *options] = {0};
    gyre_error err = {0};
    gyre_status status = gy_config_read_text(&program, given, "fuzz", (const char *)data, size, &err);
    if (status != GYRE_OK && (status != GYRE_INVALID || !err.text[0]))
        abort(); /* a refusal must be one, with a sentence */
    for (size_t i = 0; i < sizeof given / sizeof *given; i++) {
        struct gy_option_value value = {0};
        if (given[i].text && gy_option_parse(&options[i], given[i].text, "fuzz", &value, &err) != GYRE_OK)
            abort(); /* what a file gave was checked when it was read */
        free(value.text);
        free(given[i].text);
    }
    return 0;
}
