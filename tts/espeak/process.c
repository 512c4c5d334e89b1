#include "tts/espeak/process.h"

#include "base/clock.h"
#include "base/log.h"
#include "tts/cancel.h"
#include "tts/espeak/text.h"

#include <errno.h>
#include <espeak-ng/speak_lib.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define POLL_MS 20 /* how late a cancelled caller is noticed */

/* The child is a fork: a function has the same address in both. */
struct request {
    espeak_task task;
    int argument;
    size_t voice_size, text_size; /* with their NULs; they follow */
};

struct reply {
    int err;
    size_t size; /* of the answer, which follows */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static int sample_rate;
static struct {
    pid_t pid; /* 0: none runs */
    int fd;
} child;

static void initialize(void)
{
    /* Without espeakINITIALIZE_DONT_EXIT it ends the process when its data is missing. */
    sample_rate = espeak_Initialize(AUDIO_OUTPUT_SYNCHRONOUS, 0, NULL, espeakINITIALIZE_DONT_EXIT);
}

int espeak_open(void)
{
    pthread_once(&once, initialize);
    return sample_rate > 0 ? sample_rate : -ENOENT;
}

/* A few voices answer to their identifier alone ("gmw/en"), not to their tag ("en-gb"). */
static const char *identifier_of(const char *tag)
{
    const espeak_VOICE **voices = espeak_ListVoices(NULL);

    for (; voices && *voices; voices++) /* a priority, then the tag */
        if ((*voices)->languages && *(*voices)->languages && !strcmp((*voices)->languages + 1, tag))
            return (*voices)->identifier;
    return NULL;
}

/* Choosing a voice loads it anew and, in 1.51, loses a kilobyte: the one that is chosen stays. */
static int choose_voice(const char *name)
{
    static char chosen[64];
    const char *identifier;

    if (*name && !strcmp(chosen, name))
        return 0;
    chosen[0] = '\0';
    if (espeak_SetVoiceByName(name) != EE_OK) {
        identifier = identifier_of(name);
        if (!identifier || espeak_SetVoiceByName(identifier) != EE_OK)
            return -ENOENT;
    }
    snprintf(chosen, sizeof(chosen), "%s", name);
    return 0;
}

/* All of it, or the end of the child. */
static bool read_whole(int fd, void *data, size_t size)
{
    for (char *at = data; size;) {
        ssize_t n = read(fd, at, size);

        if (n <= 0 && !(n < 0 && errno == EINTR))
            return false;
        at += n > 0 ? n : 0;
        size -= n > 0 ? (size_t)n : 0;
    }
    return true;
}

static bool write_whole(int fd, const void *data, size_t size)
{
    for (const char *at = data; size;) {
        ssize_t n = send(fd, at, size, MSG_NOSIGNAL);

        if (n <= 0 && !(n < 0 && errno == EINTR))
            return false;
        at += n > 0 ? n : 0;
        size -= n > 0 ? (size_t)n : 0;
    }
    return true;
}

/* One task in the child. */
static bool serve_one(int fd)
{
    struct request request;
    struct reply reply = {0};
    struct buffer out;
    char *texts;
    bool done = false;

    if (!read_whole(fd, &request, sizeof(request)))
        return false;
    texts = malloc(request.voice_size + request.text_size);
    buffer_init(&out, ESPEAK_ANSWER_MAX);
    if (texts && read_whole(fd, texts, request.voice_size + request.text_size)) {
        reply.err = choose_voice(texts);
        if (!reply.err)
            reply.err = request.task(texts, texts + request.voice_size, request.argument, &out);
        reply.size = reply.err ? 0 : out.size;
        done = write_whole(fd, &reply, sizeof(reply)) && write_whole(fd, out.data, reply.size);
    }
    buffer_fini(&out);
    free(texts);
    return done;
}

/* The child: nothing of the parent but the library and one socket. It ends when the parent does. */
static void serve(int fd)
{
    struct rlimit no_core = {0, 0};
    int nowhere = open("/dev/null", O_RDWR);

    signal(SIGINT, SIG_IGN); /* the parent finishes its calls first */
    signal(SIGTERM, SIG_IGN);
    setrlimit(RLIMIT_CORE, &no_core);
    for (int i = 0; nowhere >= 0 && i < 3; i++)
        dup2(nowhere, i); /* the library prints */
    dup2(fd, 3);
    close_range(4, ~0u, 0);
    while (serve_one(3))
        ;
    _exit(0);
}

static void end_child(void)
{
    if (!child.pid)
        return;
    close(child.fd);
    kill(child.pid, SIGKILL);
    while (waitpid(child.pid, NULL, 0) < 0 && errno == EINTR)
        ;
    child.pid = 0;
}

static int start_child(void)
{
    int fds[2];

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
        return -errno;
    child.pid = fork();
    if (child.pid < 0) {
        child.pid = 0;
        close(fds[0]);
        close(fds[1]);
        return -EAGAIN;
    }
    if (child.pid == 0)
        serve(fds[1]);
    close(fds[1]);
    child.fd = fds[0];
    return 0;
}

/* One that died while nobody asked (by the kernel, for memory) is no fault of the next text. */
static void forget_dead_child(void)
{
    if (child.pid && waitpid(child.pid, NULL, WNOHANG) == child.pid) {
        close(child.fd);
        child.pid = 0;
    }
}

static bool ask(espeak_task task, const char *voice, const char *text, int argument)
{
    struct request request = {task, argument, strlen(voice) + 1, strlen(text) + 1};

    return write_whole(child.fd, &request, sizeof(request)) &&
           write_whole(child.fd, voice, request.voice_size) &&
           write_whole(child.fd, text, request.text_size);
}

/* @return 0 when there is something to read, be it the end; -ECANCELED; -EILSEQ when it takes too long */
static int wait_for_child(const volatile int *cancel)
{
    struct pollfd poller = {.fd = child.fd, .events = POLLIN};
    int64_t until = clock_now_ms() + ESPEAK_TASK_MS;

    while (poll(&poller, 1, POLL_MS) <= 0) {
        if (tts_cancelled(cancel))
            return -ECANCELED;
        if (clock_now_ms() > until)
            return -EILSEQ;
    }
    return 0;
}

static int hear_answer(struct buffer *out)
{
    struct reply reply;
    char part[65536];

    if (!read_whole(child.fd, &reply, sizeof(reply)) || reply.size > ESPEAK_ANSWER_MAX)
        return -EILSEQ;
    while (reply.size) {
        size_t n = reply.size < sizeof(part) ? reply.size : sizeof(part);

        if (!read_whole(child.fd, part, n))
            return -EILSEQ;
        if (buffer_append(out, part, n) < 0)
            return -EILSEQ; /* and the child, whose answer is left unread, ends */
        reply.size -= n;
    }
    return reply.err;
}

static int exchange(espeak_task task, const char *voice, const char *text, int argument,
                    const volatile int *cancel, struct buffer *out)
{
    int err = 0;

    forget_dead_child();
    if (!child.pid)
        err = start_child();
    if (err < 0)
        return err;
    err = ask(task, voice, text, argument) ? wait_for_child(cancel) : -EILSEQ;
    if (!err)
        err = hear_answer(out);
    if (err == -EILSEQ)
        log_warn("espeak-ng could not cope with a text of %zu bytes and is started anew",
                 strlen(text));
    if (err == -EILSEQ || err == -ECANCELED)
        end_child();
    return err;
}

int espeak_run(espeak_task task, const char *voice, const char *text, int argument,
               const volatile int *cancel, struct buffer *out)
{
    int err = espeak_open();
    char *clean = espeak_text_clean(voice, text);

    if (err >= 0 && !clean)
        err = -ENOMEM;
    if (err >= 0) {
        pthread_mutex_lock(&lock);
        err = exchange(task, voice, clean, argument, cancel, out);
        pthread_mutex_unlock(&lock);
    }
    free(clean);
    return err;
}
