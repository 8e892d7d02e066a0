#include "gyre/http.h"

#include <arpa/inet.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <cmocka.h>

static const char *trouble_text;
static gyre_error err;

static const char *trouble(void *self)
{
    (void)self;
    return trouble_text;
}

static char *status_page(void *self)
{
    return strdup(self);
}

static char *no_page(void *self)
{
    (void)self;
    return NULL;
}

static const struct gy_http_page pages[] = {
    {"/status", "application/json", status_page, (void *)"{\"nodes\":3}"},
    {"/broken", "application/json", no_page, NULL},
};

struct fixture {
    gy_metrics *metrics;
    gy_http *http;
};

static gyre_status open_on(gy_http **out, const char *listen, gy_metrics *metrics)
{
    const struct gy_http_options options = {.listen = listen, .metrics = metrics, .trouble = trouble, .pages = pages, .page_count = 2};
    return gy_http_open(out, &options, &err);
}

static int setup(void **state)
{
    static struct fixture fixture;
    trouble_text = NULL;
    *state = &fixture;
    if (gy_metrics_new(&fixture.metrics, NULL) != GYRE_OK)
        return -1;
    gy_counter_add(gy_counter_new(fixture.metrics, "gyre_asked_total", NULL, "Asked."), 5);
    if (open_on(&fixture.http, "127.0.0.1:0", fixture.metrics) != GYRE_OK) {
        print_error("%s\n", err.text);
        return -1;
    }
    return 0;
}

static int teardown(void **state)
{
    struct fixture *fixture = *state;
    gy_http_close(fixture->http);
    gy_metrics_free(fixture->metrics);
    return 0;
}

static unsigned port_of(const gy_http *http)
{
    const char *address = gy_http_address(http);
    assert_memory_equal(address, "127.0.0.1:", 10);
    unsigned port = (unsigned)atoi(address + 10);
    assert_in_range(port, 1, 65535);
    return port;
}

static int connect_to(unsigned port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct timeval patience = {.tv_sec = 20}; /* a hang fails the test instead of the run */
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    return fd;
}

/* Sends raw bytes, returns all that comes back until the server closes. */
static const char *talk(unsigned port, const char *request)
{
    static char answer[65536];
    int fd = connect_to(port);
    assert_int_equal(send(fd, request, strlen(request), MSG_NOSIGNAL), (ssize_t)strlen(request));
    size_t bytes = 0;
    for (ssize_t got; (got = recv(fd, answer + bytes, sizeof answer - 1 - bytes, 0)) > 0;)
        bytes += (size_t)got;
    answer[bytes] = 0;
    close(fd);
    return answer;
}

static const char *get(unsigned port, const char *path)
{
    char request[512];
    snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n", path);
    return talk(port, request);
}

static void assert_answer(const char *answer, const char *status_line, const char *header, const char *body)
{
    if (strncmp(answer, status_line, strlen(status_line)) != 0 || (header && !strcasestr(answer, header)) || !strstr(answer, "\r\n\r\n"))
        fail_msg("expected %s and %s, got:\n%s", status_line, header ? header : "", answer);
    if (body)
        assert_non_null(strstr(strstr(answer, "\r\n\r\n"), body));
}

static void metrics_are_served_in_their_format(void **state)
{
    struct fixture *fixture = *state;
    const char *answer = get(port_of(fixture->http), "/metrics");
    assert_answer(answer, "HTTP/1.1 200", "\r\nContent-Type: text/plain; version=0.0.4", "\ngyre_asked_total 5\n");
}

static void health_is_ok_or_the_reason(void **state)
{
    struct fixture *fixture = *state;
    unsigned port = port_of(fixture->http);
    assert_answer(get(port, "/healthz"), "HTTP/1.1 200", NULL, "\r\n\r\nok\n");
    trouble_text = "";
    assert_answer(get(port, "/healthz"), "HTTP/1.1 200", NULL, "\r\n\r\nok\n");
    trouble_text = "the disk is full";
    assert_answer(get(port, "/healthz"), "HTTP/1.1 503", NULL, "\r\n\r\nthe disk is full\n");
}

static void pages_are_served_and_a_page_that_cannot_be_made_is_a_500(void **state)
{
    struct fixture *fixture = *state;
    unsigned port = port_of(fixture->http);
    assert_answer(get(port, "/status"), "HTTP/1.1 200", "\r\nContent-Type: application/json", "\r\n\r\n{\"nodes\":3}");
    assert_answer(get(port, "/broken"), "HTTP/1.1 500", NULL, "could not be made");
}

static void other_paths_are_not_found(void **state)
{
    static const char *const paths[] = {"/", "/metrics/x", "/nothing", "/../../etc/passwd", "/status/../../etc/passwd", "/%2e%2e/etc/passwd"};
    struct fixture *fixture = *state;
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        const char *answer = get(port_of(fixture->http), paths[i]);
        assert_null(strstr(answer, "root:"));
        if (strncmp(answer, "HTTP/1.1 404", 12) != 0 && strncmp(answer, "HTTP/1.1 400", 12) != 0)
            fail_msg("%s: %s", paths[i], answer);
    }
}

static void other_methods_are_refused(void **state)
{
    static const char *const methods[] = {"POST", "PUT", "DELETE", "PATCH", "OPTIONS", "BREW"};
    struct fixture *fixture = *state;
    unsigned port = port_of(fixture->http);
    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++) {
        char request[256];
        snprintf(request, sizeof request, "%s /metrics HTTP/1.1\r\nHost: here\r\nContent-Length: 5\r\n\r\nhello", methods[i]);
        assert_answer(talk(port, request), "HTTP/1.1 405", NULL, NULL);
    }
    assert_answer(get(port, "/healthz"), "HTTP/1.1 200", NULL, "ok");
}

static void head_has_the_length_and_no_body(void **state)
{
    struct fixture *fixture = *state;
    const char *answer = talk(port_of(fixture->http), "HEAD /status HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n");
    assert_answer(answer, "HTTP/1.1 200", "Content-Length: 11", NULL);
    assert_string_equal(strstr(answer, "\r\n\r\n"), "\r\n\r\n");
}

static void garbage_costs_only_its_own_connection(void **state)
{
    static const char *const garbage[] = {"\r\n\r\n", "GET\r\n\r\n", "\x16\x03\x01\x02", "GET /metrics HTTP/9.9\r\n\r\n", "GET /metrics\r\n\r\n"};
    struct fixture *fixture = *state;
    unsigned port = port_of(fixture->http);
    for (size_t i = 0; i < sizeof garbage / sizeof *garbage; i++) {
        int fd = connect_to(port);
        send(fd, garbage[i], strlen(garbage[i]), MSG_NOSIGNAL);
        close(fd);
    }
    int aborted = connect_to(port);
    struct linger at_once = {.l_onoff = 1};
    setsockopt(aborted, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    close(aborted);
    assert_answer(get(port, "/healthz"), "HTTP/1.1 200", NULL, "ok");
}

static void one_connection_serves_one_request_after_another(void **state)
{
    struct fixture *fixture = *state;
    const char *answer = talk(port_of(fixture->http), "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"
                                                      "GET /status HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    assert_answer(answer, "HTTP/1.1 200", NULL, "ok\n");
    assert_non_null(strstr(answer, "{\"nodes\":3}"));
}

static void closing_does_not_wait_for_a_silent_client_and_frees_the_port(void **state)
{
    struct fixture *fixture = *state;
    unsigned port = port_of(fixture->http);
    int silent = connect_to(port);
    assert_int_equal(send(silent, "GET /metr", 9, MSG_NOSIGNAL), 9);
    gy_http_close(fixture->http);
    fixture->http = NULL;
    char byte, listen[32];
    assert_true(recv(silent, &byte, 1, 0) <= 0); /* closed, not left hanging: the receive would time out as EAGAIN */
    close(silent);
    snprintf(listen, sizeof listen, "127.0.0.1:%u", port);
    if (open_on(&fixture->http, listen, fixture->metrics) != GYRE_OK)
        fail_msg("%s", err.text);
    assert_int_equal(port_of(fixture->http), port);
    assert_answer(get(port, "/healthz"), "HTTP/1.1 200", NULL, "ok");
}

static void a_taken_port_and_a_second_door_on_port_0_are_refused(void **state)
{
    struct fixture *fixture = *state;
    gy_http *other = NULL;
    assert_int_equal(open_on(&other, "127.0.0.1:0", fixture->metrics), GYRE_UNIMPLEMENTED);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t bytes = sizeof address;
    char listen_text[32];
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(fd, 1), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &bytes), 0);
    snprintf(listen_text, sizeof listen_text, "127.0.0.1:%u", ntohs(address.sin_port));
    assert_int_equal(open_on(&other, listen_text, fixture->metrics), GYRE_UNAVAILABLE);
    assert_non_null(strstr(err.text, listen_text));
    assert_null(other);
    close(fd);
}

static void an_address_that_is_none_is_refused(void **state)
{
    static const char *const bad[] = {"", ":80", "127.0.0.1", "127.0.0.1:", "127.0.0.1:http", "127.0.0.1:65536", "127.0.0.1:-1", "::1:80",
                                      "127.0.0.1:80/x", "a b:80", "user@host:80", "127.0.0.1:99999999999999999999"};
    struct fixture *fixture = *state;
    gy_http *other = NULL;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        if (open_on(&other, bad[i], fixture->metrics) != GYRE_INVALID)
            fail_msg("%s was not refused as invalid: %s", bad[i], err.text);
    }
    assert_null(other);
}

enum { CLIENTS = 4, ASKS = 50 };

static void *ask_often(void *port)
{
    size_t good = 0;
    for (int i = 0; i < ASKS; i++) {
        struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(*(uint16_t *)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        static const char request[] = "GET /metrics HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
        char answer[4096];
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (connect(fd, (struct sockaddr *)&address, sizeof address) == 0 && send(fd, request, sizeof request - 1, MSG_NOSIGNAL) > 0 &&
            recv(fd, answer, 12, MSG_WAITALL) == 12)
            good += memcmp(answer, "HTTP/1.1 200", 12) == 0;
        close(fd);
    }
    return (void *)good;
}

static void clients_ask_at_once_and_all_are_answered(void **state)
{
    struct fixture *fixture = *state;
    uint16_t port = (uint16_t)port_of(fixture->http);
    pthread_t threads[CLIENTS];
    for (size_t i = 0; i < CLIENTS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, ask_often, &port), 0);
    for (size_t i = 0; i < CLIENTS; i++) {
        void *good;
        pthread_join(threads[i], &good);
        assert_int_equal((size_t)good, ASKS);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(metrics_are_served_in_their_format),
        TEST(health_is_ok_or_the_reason),
        TEST(pages_are_served_and_a_page_that_cannot_be_made_is_a_500),
        TEST(other_paths_are_not_found),
        TEST(other_methods_are_refused),
        TEST(head_has_the_length_and_no_body),
        TEST(garbage_costs_only_its_own_connection),
        TEST(one_connection_serves_one_request_after_another),
        TEST(closing_does_not_wait_for_a_silent_client_and_frees_the_port),
        TEST(a_taken_port_and_a_second_door_on_port_0_are_refused),
        TEST(an_address_that_is_none_is_refused),
        TEST(clients_ask_at_once_and_all_are_answered),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
