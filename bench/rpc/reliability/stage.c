#include "bench/rpc/reliability/stage.h"

#include <dirent.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define ARGUMENTS_MAX 24

const ProtobufCServiceDescriptor *const ECHO = &dragoman__bench__v1__echo__descriptor;
const char *stage_build;
char stage_folder[64] = "/tmp/bench-reliability-XXXXXX";

void stage_open(void)
{
    if (!mkdtemp(stage_folder))
        stage_die("cannot make '%s'", stage_folder);
}

void stage_close(void)
{
    DIR *folder = opendir(stage_folder);
    struct dirent *entry;

    while (folder && (entry = readdir(folder)))
        unlinkat(dirfd(folder), entry->d_name, 0);
    if (folder)
        closedir(folder);
    rmdir(stage_folder);
}

void stage_die(const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    vfprintf(stderr, fmt, args);
    va_end(args);
    fputc('\n', stderr);
    exit(1);
}

void stage_sleep_ms(int64_t ms)
{
    struct timespec time = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};

    nanosleep(&time, NULL);
}

/* They die with us, however we die. */
static pid_t start(const char *const *arguments)
{
    pid_t pid = fork();

    if (pid < 0)
        stage_die("cannot fork");
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        execv(arguments[0], (char *const *)arguments);
        fprintf(stderr, "cannot run '%s'\n", arguments[0]);
        _exit(127);
    }
    return pid;
}

const char *stage_endpoint(const char *name, const char *side)
{
    char *endpoint;

    if (asprintf(&endpoint, "ipc://%s/%s.%s", stage_folder, name, side) < 0)
        stage_die("out of memory");
    return endpoint;
}

static void wait_for(const char *path)
{
    for (int tries = 0; access(path, F_OK) != 0; tries++) {
        if (tries == 1000)
            stage_die("nothing listens at '%s'", path);
        stage_sleep_ms(5);
    }
}

pid_t stage_broker(const char *name, const char *const *flags)
{
    const char *front = stage_endpoint(name, "front"), *back = stage_endpoint(name, "back");
    const char *arguments[ARGUMENTS_MAX] = {NULL, "--front",     front,  "--back",
                                            back, "--log-level", "error"};
    char program[512];
    size_t n = 7;
    pid_t pid;

    unlink(front + strlen("ipc://"));
    unlink(back + strlen("ipc://"));
    snprintf(program, sizeof(program), "%s/broker/dragoman-broker", stage_build);
    arguments[0] = program;
    while (flags && *flags && n < ARGUMENTS_MAX - 1)
        arguments[n++] = *flags++;
    pid = start(arguments);
    wait_for(front + strlen("ipc://"));
    wait_for(back + strlen("ipc://"));
    return pid;
}

pid_t stage_worker(const char *endpoints, int capacity)
{
    char program[512], number[16];
    const char *const arguments[] = {program, "--endpoint", endpoints, "--capacity", number, NULL};

    snprintf(program, sizeof(program), "%s/bench/rpc/echo_server", stage_build);
    snprintf(number, sizeof(number), "%d", capacity);
    return start(arguments);
}

void stage_signal(pid_t pid, int signal)
{
    kill(pid, signal);
    if (signal == SIGKILL || signal == SIGTERM)
        waitpid(pid, NULL, 0);
}

size_t stage_resident(pid_t pid)
{
    unsigned long pages = 0, resident = 0;
    char path[64];
    FILE *file;

    snprintf(path, sizeof(path), "/proc/%d/statm", pid);
    file = fopen(path, "r");
    if (!file || fscanf(file, "%lu %lu", &pages, &resident) != 2)
        stage_die("cannot read '%s'", path);
    fclose(file);
    return resident * (size_t)sysconf(_SC_PAGESIZE);
}

struct mesh_channel *stage_channel(const char *endpoints)
{
    struct mesh_channel_options options = {.endpoint = endpoints, .name = "reliability"};
    const struct mesh_call_options patient = {.timeout_ms = 10000, .wait_for_ready = true};
    payload_message request = DRAGOMAN__BENCH__V1__PAYLOAD__INIT;
    struct mesh_channel *channel = NULL;
    ProtobufCMessage *response;
    struct status status;

    if (mesh_channel_create(&options, &channel) < 0)
        stage_die("cannot connect to '%s'", endpoints);
    if (mesh_unary(channel, ECHO, "Quick", &request.base, &patient, &response, &status) < 0)
        stage_die("nobody answers: %s: %s", status_name(status.code), status.message);
    protobuf_c_message_free_unpacked(response, NULL);
    return channel;
}

void samples_add(struct samples *samples, double value)
{
    if (samples->n == samples->room) {
        samples->room = samples->room ? samples->room * 2 : 1024;
        samples->values = realloc(samples->values, samples->room * sizeof(*samples->values));
        if (!samples->values)
            stage_die("out of memory");
    }
    samples->values[samples->n++] = value;
    samples->sorted = false;
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

double samples_quantile(struct samples *samples, double q)
{
    if (samples->n == 0)
        return 0;
    if (!samples->sorted)
        qsort(samples->values, samples->n, sizeof(*samples->values), by_size);
    samples->sorted = true;
    return samples->values[(size_t)(q * (double)(samples->n - 1) + 0.5)];
}

void samples_free(struct samples *samples)
{
    free(samples->values);
    *samples = (struct samples){0};
}
