/* Processes that are killed or stopped: the other end's calls end, soon, and it goes on. */
#include "tests/mesh/rig.h"

#include "base/clock.h"
#include "base/log.h"

#include <errno.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static char endpoint[128];
static const echo_request empty = DRAGOMAN__TEST__V1__ECHO_REQUEST__INIT;

/* ---- the other process ----------------------------------------------------------------------- */

static int be_server(const char *where)
{
    struct mesh_server_options options = {
        .endpoint = where, .bind = true, .capacity = 4, .heartbeat_ms = 100};
    struct mesh_server *server = NULL;

    if (mesh_server_create(&options, &server) < 0 || echo_add(server) < 0 ||
        mesh_server_start(server) < 0)
        return 1;
    pause();
    return 0;
}

/* One call that lasts. */
static int be_caller(const char *where)
{
    struct mesh_channel_options options = {.endpoint = where};
    struct mesh_channel *channel = NULL;
    echo_request request = empty;
    ProtobufCMessage *response = NULL;
    struct status status;

    request.until_cancelled = true;
    if (mesh_channel_create(&options, &channel) < 0)
        return 1;
    mesh_unary(channel, ECHO, "Unary", &request.base, NULL, &response, &status);
    return 0;
}

/* A process of its own: fork() alone would share libzmq's locks. */
static pid_t spawn(const char *role)
{
    char *const argv[] = {(char *)"test_death", (char *)role, endpoint, NULL};
    pid_t pid;

    assert_int_equal(posix_spawn(&pid, "/proc/self/exe", NULL, NULL, argv, environ), 0);
    return pid;
}

static void kill_and_wait(pid_t pid)
{
    kill(pid, SIGCONT);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

static void stop_and_wait(pid_t pid)
{
    int status;

    kill(pid, SIGSTOP);
    assert_int_equal(waitpid(pid, &status, WUNTRACED), pid);
    assert_true(WIFSTOPPED(status));
}

/* ---- tests ----------------------------------------------------------------------------------- */

static int setup(void **state)
{
    bool tcp = *state != NULL;

    if (tcp)
        snprintf(endpoint, sizeof(endpoint), "tcp://127.0.0.1:%d", 20000 + (int)getpid() % 20000);
    else
        snprintf(endpoint, sizeof(endpoint), "ipc:///tmp/dragoman-death-%d", (int)getpid());
    echo_reset();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    if (strncmp(endpoint, "ipc://", 6) == 0)
        unlink(endpoint + 6);
    return 0;
}

static struct mesh_channel *make_channel(void)
{
    struct mesh_channel_options options = {.endpoint = endpoint, .heartbeat_ms = 100};
    struct mesh_channel *channel = NULL;

    assert_int_equal(mesh_channel_create(&options, &channel), 0);
    return channel;
}

static struct mesh_stream *start_chat(struct mesh_channel *channel)
{
    struct mesh_call_options options = {.wait_for_ready = true};
    struct mesh_stream *stream = NULL;
    ProtobufCMessage *message = NULL;

    assert_int_equal(mesh_stream_open(channel, ECHO, "Chat", &options, &stream), 0);
    assert_int_equal(mesh_stream_write(stream, &empty.base, 0), 0);
    assert_int_equal(mesh_stream_read(stream, &message, 10000), 0);
    protobuf_c_message_free_unpacked(message, NULL);
    return stream;
}

static void killed_server(void **state)
{
    pid_t pid = spawn("server");
    struct mesh_channel *channel = make_channel();
    struct mesh_call_options patient = {.wait_for_ready = true, .timeout_ms = 10000};
    struct mesh_stream *stream = start_chat(channel);
    struct status status;
    int64_t begun;

    (void)state;
    begun = clock_now_ms();
    kill_and_wait(pid);
    assert_int_equal(rig_read_all(stream, &status), 0);
    assert_int_equal(status.code, STATUS_UNAVAILABLE);
    assert_in_range(clock_now_ms() - begun, 0, 250); /* the connection's end tells, not silence */
    mesh_stream_destroy(&stream);
    pid = spawn("server"); /* and another takes its place */
    assert_int_equal(rig_unary(channel, &empty, &patient, NULL).code, STATUS_OK);
    mesh_channel_destroy(&channel);
    kill_and_wait(pid);
}

static void stopped_server(void **state)
{
    pid_t pid = spawn("server");
    struct mesh_channel *channel = make_channel();
    struct mesh_call_options patient = {.wait_for_ready = true, .timeout_ms = 10000};
    struct mesh_stream *stream = start_chat(channel);
    ProtobufCMessage *message = NULL;
    struct status status;

    (void)state;
    stop_and_wait(pid); /* shortly: nothing is lost */
    assert_int_equal(mesh_stream_write(stream, &empty.base, 0), 0);
    assert_int_equal(mesh_stream_read(stream, &message, 100), -EAGAIN);
    kill(pid, SIGCONT);
    assert_int_equal(mesh_stream_read(stream, &message, 5000), 0);
    protobuf_c_message_free_unpacked(message, NULL);

    stop_and_wait(pid); /* for good */
    assert_int_equal(rig_read_all(stream, &status), 0);
    assert_int_equal(status.code, STATUS_UNAVAILABLE);
    mesh_stream_destroy(&stream);
    kill(pid, SIGCONT);
    assert_int_equal(rig_unary(channel, &empty, &patient, NULL).code, STATUS_OK);
    mesh_channel_destroy(&channel);
    kill_and_wait(pid);
}

static void killed_caller(void **state)
{
    struct mesh_server_options options = {.endpoint = endpoint, .bind = true, .capacity = 4};
    struct mesh_server *server = NULL;
    int64_t begun;
    pid_t pid;

    (void)state;
    assert_int_equal(mesh_server_create(&options, &server), 0);
    assert_int_equal(echo_add(server), 0);
    assert_int_equal(mesh_server_start(server), 0);
    pid = spawn("caller");
    rig_wait(echo_counts.started == 1);
    begun = clock_now_ms();
    kill_and_wait(pid);
    rig_wait(echo_counts.cancelled == 1);
    assert_in_range(clock_now_ms() - begun, 0, 500); /* three heartbeats would be three seconds */
    mesh_server_destroy(&server);
}

#define OVER(transport, test)                                                                      \
    {                                                                                              \
        .name = #test, .test_func = test, .setup_func = setup, .teardown_func = teardown,          \
        .initial_state = (void *)(uintptr_t)(transport)                                            \
    }

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        OVER(0, killed_server),  OVER(1, killed_server), OVER(0, stopped_server),
        OVER(1, stopped_server), OVER(0, killed_caller), OVER(1, killed_caller),
    };

    log_init("test", LOG_ERROR, LOG_FORMAT_TEXT);
    if (argc == 3)
        prctl(PR_SET_PDEATHSIG, SIGKILL); /* not to outlive a test that fails */
    if (argc == 3 && strcmp(argv[1], "server") == 0)
        return be_server(argv[2]);
    if (argc == 3 && strcmp(argv[1], "caller") == 0)
        return be_caller(argv[2]);
    return cmocka_run_group_tests_name("death", tests, NULL, NULL);
}
