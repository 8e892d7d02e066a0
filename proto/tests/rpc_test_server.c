/* The fixture as a process: prints its address, then obeys lines on standard input until it ends:
 * "serving", "not_serving", "release". For clients in other languages. */
#include "rpc_fixture.h"

#include <stdio.h>

int main(void)
{
    struct fixture fixture;
    gyre_error err;
    if (fixture_open(&fixture, "127.0.0.1:0", 1, &err) != GYRE_OK) {
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    printf("%s\n", gy_rpc_server_address(fixture.server));
    fflush(stdout);
    char line[64];
    while (fgets(line, sizeof line, stdin)) {
        if (strcmp(line, "serving\n") == 0 || strcmp(line, "not_serving\n") == 0)
            gy_rpc_server_set_serving(fixture.server, line[0] == 's');
        else if (strcmp(line, "release\n") == 0)
            fixture_release(&fixture, GYRE_OK);
        printf("done\n");
        fflush(stdout);
    }
    fixture_hold_nothing(&fixture, GYRE_UNAVAILABLE);
    fixture_close(&fixture, 60 * GY_SECOND_NS);
    return 0;
}
