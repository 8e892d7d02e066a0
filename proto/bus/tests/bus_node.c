/* A node in a process of its own: prints its address, then serves until its standard input ends. */
#include "fixture.h"

#include <stdio.h>

int main(int argc, char **argv)
{
    struct fx_node node;
    fx_node_open(&node, argc > 1 ? argv[1] : "127.0.0.1:0", "bus_node", 'k', 0, GY_BUS_VERSION);
    printf("%s\n", gy_bus_address(node.bus));
    fflush(stdout);
    while (getchar() != EOF)
        ;
    fx_node_hold_nothing(&node);
    fx_node_close(&node);
    return 0;
}
