/* A service as threads of a process, and as a process: flags, readiness, signals, drain. */
#include "tests/mesh/rig.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/probe.h"
#include "broker/broker.h"
#include "mesh/harness.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include <zmq.h>

extern char **environ;

static const echo_request empty = DRAGOMAN__TEST__V1__ECHO_REQUEST__INIT;

/* ---- the service ----------------------------------------------------------------------------- */

static const char *config_lang = "en";
static bool config_broken, config_slow;
static int stopped;

static const struct config_option options[] = {
    {"lang", CONFIG_STRING, &config_lang, "CODE", "label of the worker", NULL, 0, 0},
    {"broken", CONFIG_BOOL, &config_broken, NULL, "fail to start", NULL, 0, 0},
    {"slow", CONFIG_BOOL, &config_slow, NULL, "load for a minute", NULL, 0, 0},
    {.name = NULL},
};

static int start(const void *config, struct mesh_server *server, void **state)
{
    const char *lang = config ? config : config_lang;
    int err = config_broken ? -ENOENT : echo_add(server);

    if (err < 0) {
        log_error("cannot start: broken");
        return err;
    }
    if (config_slow)
        rig_sleep_ms(60000);
    *state = &stopped;
    return mesh_server_add_label(server, "lang", lang);
}

static void stop(void *state)
{
    ++*(int *)state;
}

static const struct mesh_harness_service service = {
    .program = "dragoman-test",
    .name = "echo",
    .summary = "Echo, for tests.",
    .options = options,
    .default_capacity = 2,
    .start = start,
    .stop = stop,
};

/* ---- as threads ------------------------------------------------------------------------------ */

static void threads_of_this_process(void **state)
{
    const char *const fronts[] = {"inproc://front", NULL};
    const char *const backs[] = {"inproc://back", NULL};
    void *context = zmq_ctx_new();
    struct broker_options at = {.front = fronts, .back = backs, .context = context};
    struct mesh_harness_options harness_options = {.broker = "inproc://back", .context = context};
    struct mesh_channel_options to = {.endpoint = "inproc://front", .context = context};
    struct mesh_call_options pt = {.selector = "lang=pt"};
    struct mesh_call_options en = {.selector = "lang=en"};
    struct mesh_harness *harness = NULL;
    struct mesh_channel *channel = NULL;
    struct broker *broker = NULL;

    (void)state;
    stopped = 0;
    assert_int_equal(broker_start(&at, &broker), 0);
    config_broken = true;
    assert_int_equal(mesh_harness_start(&service, "pt", &harness_options, &harness), -ENOENT);
    assert_null(harness);
    config_broken = false;
    assert_int_equal(mesh_harness_start(&service, "pt", &harness_options, &harness), 0);
    rig_wait(mesh_harness_ready(harness));
    assert_int_equal(mesh_channel_create(&to, &channel), 0);
    assert_int_equal(rig_unary(channel, &empty, &pt, NULL).code, STATUS_OK);
    assert_int_equal(rig_unary(channel, &empty, &en, NULL).code, STATUS_UNAVAILABLE);
    mesh_harness_stop(&harness, 1000);
    assert_null(harness);
    assert_int_equal(stopped, 1);
    assert_int_equal(rig_unary(channel, &empty, NULL, NULL).code, STATUS_UNAVAILABLE);
    mesh_channel_destroy(&channel);
    broker_stop(&broker, 0);
    zmq_ctx_term(context);
}

/* ---- as a process ---------------------------------------------------------------------------- */

static pid_t spawn(const char *const *flags)
{
    char *argv[16] = {(char *)"test_harness", (char *)"service"};
    posix_spawn_file_actions_t files;
    pid_t pid;
    int n = 2;

    while (*flags)
        argv[n++] = (char *)*flags++;
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_addopen(&files, 1, "/dev/null", O_WRONLY, 0);
    posix_spawn_file_actions_addopen(&files, 2, "/dev/null", O_WRONLY, 0);
    assert_int_equal(posix_spawn(&pid, "/proc/self/exe", &files, NULL, argv, environ), 0);
    posix_spawn_file_actions_destroy(&files);
    return pid;
}

static int exit_status(pid_t pid)
{
    int status = 0;

    for (int i = 0; i < 10000; i++) {
        if (waitpid(pid, &status, WNOHANG) == pid)
            return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
        rig_sleep_ms(1);
    }
    kill(pid, SIGKILL);
    fail_msg("the process did not end");
    return 0;
}

static int run(const char *flag)
{
    const char *const flags[] = {flag, NULL};

    return exit_status(spawn(flags));
}

static void exit_statuses(void **state)
{
    (void)state;
    assert_int_equal(run("--help"), 0);
    assert_int_equal(run("--version"), 0);
    assert_int_equal(run("--no-such-flag"), 2);
    assert_int_equal(run("--capacity=0"), 2);
    assert_int_equal(run("--broken"), 1);
    assert_int_equal(run("--broker=nowhere"), 2);
    assert_int_equal(run("--admin=nonsense"), 2);
}

struct stack {
    struct broker *broker;
    struct mesh_channel *channel;
    char admin[32], admin_flag[64], broker_flag[64];
    pid_t pid;
};

/* Ask as a container's health check does, which prints what it hears: seldom. */
static void wait_for_readiness(const struct stack *stack, bool ready)
{
    int tries = 400; /* on a busy machine */

    while ((probe_ready(stack->admin) == 0) != ready && tries-- > 0)
        rig_sleep_ms(50);
    assert_true(tries > 0);
}

/* One that nobody listens on: the system names it, and gives others first for a while. */
static int free_port(void)
{
    struct sockaddr_in at = {.sin_family = AF_INET};
    socklen_t size = sizeof(at);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof(at)), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&at, &size), 0);
    close(fd);
    return ntohs(at.sin_port);
}

static void begin_stack(struct stack *stack, const char *flag)
{
    const char *const endpoints[] = {"tcp://127.0.0.1:*", NULL};
    struct broker_options at = {.front = endpoints, .back = endpoints};
    struct mesh_channel_options to = {0};
    const char *flags[] = {stack->broker_flag, stack->admin_flag, flag, NULL};

    assert_int_equal(broker_start(&at, &stack->broker), 0);
    snprintf(stack->admin, sizeof(stack->admin), "127.0.0.1:%d", free_port());
    snprintf(stack->admin_flag, sizeof(stack->admin_flag), "--admin=%s", stack->admin);
    snprintf(stack->broker_flag, sizeof(stack->broker_flag), "--broker=%s",
             broker_back_endpoint(stack->broker, 0));
    to.endpoint = broker_front_endpoint(stack->broker, 0);
    assert_int_equal(mesh_channel_create(&to, &stack->channel), 0);
    stack->pid = spawn(flags);
}

static void start_stack(struct stack *stack, const char *grace_flag)
{
    begin_stack(stack, grace_flag);
    wait_for_readiness(stack, true);
}

static void stop_stack(struct stack *stack)
{
    mesh_channel_destroy(&stack->channel);
    broker_stop(&stack->broker, 0);
}

/* A call that runs in the other process for so long. */
static struct mesh_stream *start_call(struct stack *stack, uint32_t sleep_ms)
{
    struct mesh_stream *stream = NULL;
    echo_request request = empty;
    ProtobufCMessage *message = NULL;

    request.sleep_ms = sleep_ms;
    assert_int_equal(mesh_stream_open(stack->channel, ECHO, "Chat", NULL, &stream), 0);
    assert_int_equal(mesh_stream_write(stream, &empty.base, 0), 0);
    assert_int_equal(mesh_stream_read(stream, &message, 10000), 0);
    protobuf_c_message_free_unpacked(message, NULL);
    assert_int_equal(mesh_stream_write(stream, &request.base, 5000), 0);
    assert_int_equal(mesh_stream_finish(stream), 0);
    rig_sleep_ms(50);
    return stream;
}

static void sigterm_drains(void **state)
{
    struct stack stack = {0};
    struct mesh_stream *stream;
    struct status status;

    (void)state;
    start_stack(&stack, "--grace-s=20");
    stream = start_call(&stack, 1000);
    kill(stack.pid, SIGTERM);
    wait_for_readiness(&stack, false); /* still there */
    rig_wait(rig_unary(stack.channel, &empty, NULL, NULL).code == STATUS_UNAVAILABLE);
    assert_int_equal(rig_read_all(stream, &status), 1);
    assert_int_equal(status.code, STATUS_OK);
    mesh_stream_destroy(&stream);
    assert_int_equal(exit_status(stack.pid), 0);
    stop_stack(&stack);
}

static void the_second_signal_does_not_wait(void **state)
{
    struct stack stack = {0};
    struct mesh_stream *stream;
    struct status status;
    int64_t begun;

    (void)state;
    start_stack(&stack, "--grace-s=60");
    stream = start_call(&stack, 60000);
    begun = clock_now_ms();
    kill(stack.pid, SIGINT);
    wait_for_readiness(&stack, false);
    kill(stack.pid, SIGINT);
    exit_status(stack.pid);
    assert_in_range(clock_now_ms() - begun, 0, 5000);
    rig_read_all(stream, &status);
    assert_int_equal(status.code, STATUS_UNAVAILABLE);
    mesh_stream_destroy(&stream);
    stop_stack(&stack);
}

/* There is nothing to wait for. */
static void sigterm_while_loading_stops_at_once(void **state)
{
    struct stack stack = {0};
    int64_t begun;

    (void)state;
    begin_stack(&stack, "--slow");
    rig_sleep_ms(300);
    assert_int_not_equal(probe_ready(stack.admin), 0);
    assert_int_equal(waitpid(stack.pid, NULL, WNOHANG), 0);
    begun = clock_now_ms();
    kill(stack.pid, SIGTERM);
    assert_int_equal(exit_status(stack.pid), 0);
    assert_in_range(clock_now_ms() - begun, 0, 5000);
    stop_stack(&stack);
}

/* After the grace time, and a while for handlers to look at their cancellation. */
static void a_handler_that_never_looks_does_not_keep_the_process(void **state)
{
    struct stack stack = {0};
    struct mesh_stream *stream;
    struct status status;

    (void)state;
    start_stack(&stack, "--grace-s=0");
    stream = start_call(&stack, 60000);
    kill(stack.pid, SIGTERM);
    assert_int_equal(exit_status(stack.pid), 1);
    rig_read_all(stream, &status);
    assert_int_equal(status.code, STATUS_UNAVAILABLE);
    mesh_stream_destroy(&stream);
    stop_stack(&stack);
}

static void readiness_follows_the_broker(void **state)
{
    struct stack stack = {0};

    (void)state;
    start_stack(&stack, "--grace-s=1");
    mesh_channel_destroy(&stack.channel);
    broker_stop(&stack.broker, 0);
    wait_for_readiness(&stack, false);
    kill(stack.pid, SIGTERM);
    assert_int_equal(exit_status(stack.pid), 0);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(threads_of_this_process),
        cmocka_unit_test(exit_statuses),
        cmocka_unit_test(sigterm_drains),
        cmocka_unit_test(the_second_signal_does_not_wait),
        cmocka_unit_test(sigterm_while_loading_stops_at_once),
        cmocka_unit_test(a_handler_that_never_looks_does_not_keep_the_process),
        cmocka_unit_test(readiness_follows_the_broker),
    };

    if (argc > 1 && strcmp(argv[1], "service") == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        return mesh_harness_main(&service, argc - 1, argv + 1);
    }
    log_init("test", LOG_ERROR, LOG_FORMAT_TEXT);
    return cmocka_run_group_tests_name("harness", tests, NULL, NULL);
}
