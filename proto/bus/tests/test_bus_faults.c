/* Nodes that are killed and frozen while calls are under way. */
#include "fixture.h"

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <setjmp.h>
#include <cmocka.h>

struct process {
    pid_t pid;
    int input; /* closing it ends the process */
    char address[64];
};

static void process_start(struct process *process, const char *listen)
{
    int in[2], out[2];
    assert_int_equal(pipe(in), 0);
    assert_int_equal(pipe(out), 0);
    process->pid = fork(); /* nng in a forked child panics: exec at once */
    if (process->pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        dup2(in[0], 0);
        dup2(out[1], 1);
        close(in[0]), close(in[1]), close(out[0]), close(out[1]);
        execl(BUS_NODE, BUS_NODE, listen, (char *)NULL);
        _exit(127);
    }
    close(in[0]);
    close(out[1]);
    process->input = in[1];
    FILE *file = fdopen(out[0], "r");
    assert_non_null(fgets(process->address, sizeof process->address, file));
    process->address[strcspn(process->address, "\n")] = '\0';
    fclose(file);
}

static void process_end(struct process *process, int signal)
{
    if (signal)
        kill(process->pid, signal);
    close(process->input);
    waitpid(process->pid, NULL, 0);
}

/* SIGSTOP takes its time: waits until no thread of the node runs. */
static void process_freeze(struct process *process)
{
    kill(process->pid, SIGSTOP);
    int how;
    assert_int_equal(waitpid(process->pid, &how, WUNTRACED), process->pid);
    assert_true(WIFSTOPPED(how));
}

static uint32_t marks(gy_peer *peer)
{
    struct fx_reply reply;
    fx_call(&reply, peer, FX_COUNT, NULL, 0, FX_SOON_MS);
    assert_int_equal(reply.status, GYRE_OK);
    uint32_t count = gy_load_u32(reply.body);
    fx_reply_free(&reply);
    return count;
}

static void a_node_killed_in_the_middle_fails_its_calls_at_once(void **state)
{
    (void)state;
    struct process node;
    char address[64];
    int reserved = fx_reserve(address);
    process_start(&node, address);
    gy_bus *caller = fx_caller_open('k', 0, GY_BUS_VERSION);
    struct fx_state watch;
    fx_state_init(&watch);
    gy_peer *peer = fx_peer(caller, node.address, &watch);
    struct fx_reply held[10], reply;
    for (int i = 0; i < 10; i++)
        fx_start(&held[i], peer, FX_HOLD, "a", 1, FX_SOON_MS);
    assert_int_equal(marks(peer), 0); /* so the ones before it are there */
    int64_t killed_ns = gy_now_ns();
    process_end(&node, SIGKILL);
    for (int i = 0; i < 10; i++) {
        fx_wait(&held[i]);
        assert_int_equal(held[i].status, GYRE_UNAVAILABLE);
        assert_non_null(strstr(held[i].err.text, node.address));
        fx_reply_free(&held[i]);
    }
    assert_in_range(gy_now_ns() - killed_ns, 0, FX_SOON_NS / 2);
    assert_true(fx_wait_state(&watch, false));
    fx_call(&reply, peer, FX_ECHO, "a", 1, FX_SOON_MS);
    assert_int_equal(reply.status, GYRE_UNAVAILABLE);
    assert_in_range(reply.took_ns, 0, FX_SOON_NS / 2);
    fx_reply_free(&reply);

    process_start(&node, node.address); /* comes back where it was */
    assert_true(fx_wait_state(&watch, true));
    fx_call(&reply, peer, FX_ECHO, "a", 1, FX_SOON_MS);
    assert_int_equal(reply.status, GYRE_OK);
    fx_reply_free(&reply);
    process_end(&node, 0);
    gy_peer_free(peer);
    gy_bus_close(caller);
    close(reserved);
}

static void a_frozen_node_executes_nothing_that_expired(void **state)
{
    (void)state;
    struct process node;
    process_start(&node, "127.0.0.1:0");
    gy_bus *caller = fx_caller_open('k', 0, GY_BUS_VERSION);
    gy_peer *peer = fx_peer(caller, node.address, NULL);
    assert_int_equal(marks(peer), 0);
    process_freeze(&node);
    struct fx_reply replies[GY_PEER_TIMEOUTS_MAX - 1];
    for (int i = 0; i < GY_PEER_TIMEOUTS_MAX - 1; i++)
        fx_start(&replies[i], peer, FX_MARK, NULL, 0, 200);
    for (int i = 0; i < GY_PEER_TIMEOUTS_MAX - 1; i++) {
        fx_wait(&replies[i]);
        assert_int_equal(replies[i].status, GYRE_DEADLINE);
        assert_in_range(replies[i].took_ns, 199 * GY_MILLISECOND_NS, FX_SOON_NS / 2);
        fx_reply_free(&replies[i]);
    }
    kill(node.pid, SIGCONT);
    assert_int_equal(marks(peer), 0); /* on the same connection, so the expired ones have been seen by now */
    assert_int_equal(gy_peer_redials(peer), 0);
    gy_peer_free(peer);
    gy_bus_close(caller);
    process_end(&node, 0);
}

static void a_peer_whose_calls_all_time_out_is_dialled_anew(void **state)
{
    (void)state;
    struct process node;
    process_start(&node, "127.0.0.1:0");
    gy_bus *caller = fx_caller_open('k', 0, GY_BUS_VERSION);
    struct fx_state watch;
    fx_state_init(&watch);
    gy_peer *peer = fx_peer(caller, node.address, &watch);
    assert_int_equal(marks(peer), 0);
    assert_true(fx_wait_state(&watch, true));
    process_freeze(&node);
    struct fx_reply long_one, replies[GY_PEER_TIMEOUTS_MAX], reply;
    fx_start(&long_one, peer, FX_HOLD, "a", 1, FX_SOON_MS);
    for (int i = 0; i < GY_PEER_TIMEOUTS_MAX; i++)
        fx_start(&replies[i], peer, FX_MARK, NULL, 0, 100);
    for (int i = 0; i < GY_PEER_TIMEOUTS_MAX; i++) {
        fx_wait(&replies[i]);
        assert_int_equal(replies[i].status, GYRE_DEADLINE);
        fx_reply_free(&replies[i]);
    }
    while (gy_peer_redials(peer) == 0) { /* if one was held up here until after its deadline: it never left, and does not count */
        fx_call(&reply, peer, FX_MARK, NULL, 0, 100);
        assert_int_equal(reply.status, GYRE_DEADLINE);
        fx_reply_free(&reply);
    }
    fx_wait(&long_one); /* cut by the redial, long before its deadline */
    assert_int_equal(long_one.status, GYRE_UNAVAILABLE);
    assert_in_range(long_one.took_ns, 0, FX_SOON_NS / 2);
    fx_reply_free(&long_one);
    assert_int_equal(gy_peer_redials(peer), 1);
    assert_true(fx_wait_state(&watch, false));
    fx_call(&reply, peer, FX_MARK, NULL, 0, FX_SOON_MS); /* fails fast while it is frozen */
    assert_int_equal(reply.status, GYRE_UNAVAILABLE);
    assert_in_range(reply.took_ns, 0, FX_SOON_NS / 2);
    fx_reply_free(&reply);
    kill(node.pid, SIGCONT);
    assert_true(fx_wait_state(&watch, true));
    assert_int_equal(marks(peer), 0);
    gy_peer_free(peer);
    gy_bus_close(caller);
    process_end(&node, 0);
}

static void a_node_killed_again_and_again_never_confuses_answers(void **state)
{
    (void)state;
    struct process node;
    char address[64];
    int reserved = fx_reserve(address);
    process_start(&node, address);
    gy_bus *caller = fx_caller_open('k', 0, GY_BUS_VERSION);
    struct fx_state watch;
    fx_state_init(&watch);
    gy_peer *peer = fx_peer(caller, node.address, &watch);
    enum { CALLS = 100, ROUNDS = 8 };
    static struct fx_reply replies[CALLS];
    static uint8_t bodies[CALLS][3000];
    unsigned answered = 0;
    for (int round = 0; round < ROUNDS; round++) {
        assert_true(fx_wait_state(&watch, true));
        for (int i = 0; i < CALLS; i++) {
            memset(bodies[i], round * CALLS + i, sizeof bodies[i]);
            fx_start(&replies[i], peer, FX_ECHO, bodies[i], sizeof bodies[i], FX_SOON_MS);
            if (i == CALLS / 2)
                kill(node.pid, SIGKILL);
        }
        process_end(&node, SIGKILL);
        for (int i = 0; i < CALLS; i++) {
            fx_wait(&replies[i]);
            if (replies[i].status == GYRE_OK) {
                answered++;
                assert_int_equal(replies[i].bytes, sizeof bodies[i]);
                assert_memory_equal(replies[i].body, bodies[i], sizeof bodies[i]);
            } else {
                assert_int_equal(replies[i].status, GYRE_UNAVAILABLE);
            }
            fx_reply_free(&replies[i]);
        }
        assert_true(fx_wait_state(&watch, false));
        process_start(&node, node.address);
    }
    print_message("%u of %d calls were answered\n", answered, CALLS * ROUNDS);
    gy_peer_free(peer);
    gy_bus_close(caller);
    process_end(&node, 0);
    close(reserved);
}

int main(void)
{
    signal(SIGPIPE, SIG_IGN);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_node_killed_in_the_middle_fails_its_calls_at_once),
        cmocka_unit_test(a_frozen_node_executes_nothing_that_expired),
        cmocka_unit_test(a_peer_whose_calls_all_time_out_is_dialled_anew),
        cmocka_unit_test(a_node_killed_again_and_again_never_confuses_answers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
