/* The queue of ended spans, and the thread that posts them. */
#include "base/clock.h"
#include "base/http_client.h"
#include "base/log.h"
#include "base/metrics.h"
#include "base/trace_private.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define QUEUE_MAX 4096                 /* spans that wait; past it they are dropped */
#define BATCH_MAX 512                  /* spans of one request */
#define BATCH_BYTES ((size_t)32 << 20) /* of its JSON */
#define GATHER_MS 500                  /* that a span waits for company */
#define POST_MS 2500                   /* also what trace_stop() may have to wait for */
#define RETRY_FIRST_MS 500
#define RETRY_MAX_MS 30000
#define STOP_MS 2000 /* for what is left */
#define ANSWER_MAX 16384
#define NAME_MAX_BYTES 64

enum { OUTCOME_EXPORTED, OUTCOME_DROPPED, OUTCOME_FAILED, N_OUTCOMES };

static struct {
    atomic_bool enabled;
    double ratio;
    char process[NAME_MAX_BYTES];
    char host[HTTP_HOST_MAX], port[HTTP_PORT_MAX];
    char *path; /* "/v1/traces" with what the endpoint says before it */
    struct metric *outcomes[N_OUTCOMES];
    pthread_t thread;
    bool complained; /* since the last success */

    pthread_mutex_t lock; /* what follows */
    pthread_cond_t changed;
    struct trace_span *first, **last;
    size_t n;
    int64_t stop_ms; /* when patience ends; 0: no stop yet */
    bool gone;       /* the thread needs nothing any more */
} exporter = {.lock = PTHREAD_MUTEX_INITIALIZER, .last = &exporter.first, .ratio = 1};

bool trace_enabled(void)
{
    return atomic_load_explicit(&exporter.enabled, memory_order_acquire);
}

/* The lowest 56 bits of the id are random by W3C's level 2: they decide, alike in every process. */
bool trace_samples(const uint8_t trace_id[TRACE_ID_BYTES])
{
    uint64_t bits = 0;

    if (!trace_enabled())
        return false;
    for (size_t i = 9; i < TRACE_ID_BYTES; i++)
        bits = bits << 8 | trace_id[i];
    return (double)bits < exporter.ratio * 72057594037927936.0; /* 2^56 */
}

static void free_list(struct trace_span *span)
{
    while (span) {
        struct trace_span *next = span->next;

        trace_span_free(span);
        span = next;
    }
}

void trace_enqueue(struct trace_span *span)
{
    bool full;

    pthread_mutex_lock(&exporter.lock);
    full = exporter.n >= QUEUE_MAX || !trace_enabled();
    if (!full) {
        span->next = NULL;
        *exporter.last = span;
        exporter.last = &span->next;
        if (++exporter.n == BATCH_MAX || exporter.n == 1)
            pthread_cond_signal(&exporter.changed);
    }
    pthread_mutex_unlock(&exporter.lock);
    if (!full)
        return;
    metric_add(exporter.outcomes[OUTCOME_DROPPED], 1);
    trace_span_free(span);
}

/* ---- the thread ------------------------------------------------------------------------------ */

/* Under the lock: until something changes or the time comes. */
static void wait_until(int64_t at_ms)
{
    const struct timespec time = {.tv_sec = at_ms / 1000, .tv_nsec = at_ms % 1000 * 1000000};

    pthread_cond_timedwait(&exporter.changed, &exporter.lock, &time);
}

/* Spans to send: as soon as a batch is full, or the first has waited long enough. @return how many;
 * 0: stopping, and nothing is left */
static size_t take_batch(struct trace_span **out)
{
    struct trace_span *span;
    int64_t until;
    size_t n = 0;

    pthread_mutex_lock(&exporter.lock);
    while (!exporter.first && exporter.stop_ms == 0)
        pthread_cond_wait(&exporter.changed, &exporter.lock);
    until = clock_now_ms() + GATHER_MS;
    while (exporter.n < BATCH_MAX && exporter.stop_ms == 0 && clock_now_ms() < until)
        wait_until(until);
    *out = span = exporter.first;
    for (; span && n < BATCH_MAX; n++) {
        struct trace_span *next = span->next;

        if (n + 1 == BATCH_MAX)
            span->next = NULL;
        span = next;
    }
    exporter.first = span;
    exporter.n -= n;
    if (!span)
        exporter.last = &exporter.first;
    pthread_mutex_unlock(&exporter.lock);
    return n;
}

/* Milliseconds that a request may take. */
static int64_t patience(void)
{
    int64_t stop, left;

    pthread_mutex_lock(&exporter.lock);
    stop = exporter.stop_ms;
    pthread_mutex_unlock(&exporter.lock);
    left = stop > 0 ? stop - clock_now_ms() : POST_MS;
    return left < 0 ? 0 : left < POST_MS ? left : POST_MS;
}

/* @return HTTP's status; -errno */
static int post(const struct buffer *body)
{
    struct buffer request, answer;
    int status;

    buffer_init(&request, BATCH_BYTES + 4096);
    buffer_init(&answer, ANSWER_MAX);
    status = buffer_printf(&request,
                           "POST %s HTTP/1.1\r\nHost: %s:%s\r\nUser-Agent: dragoman\r\n"
                           "Content-Type: application/json\r\nContent-Length: %zu\r\n"
                           "Connection: close\r\n\r\n",
                           exporter.path, exporter.host, exporter.port, body->size);
    if (status == 0)
        status = buffer_append(&request, body->data, body->size);
    if (status == 0)
        status = http_exchange(exporter.host, exporter.port, request.data, request.size,
                               (int)patience(), &answer);
    buffer_fini(&request);
    buffer_fini(&answer);
    return status;
}

/* OTLP's list of what may be tried again, and all that is not even an answer. */
static bool is_transient(int status)
{
    return (status < 0 && status != -EMSGSIZE && status != -ENOMEM) || status == 429 ||
           status == 502 || status == 503 || status == 504;
}

static void complain(int status)
{
    if (exporter.complained)
        return;
    exporter.complained = true;
    if (status < 0)
        log_warn("traces: cannot post to http://%s:%s%s: %s", exporter.host, exporter.port,
                 exporter.path, strerror(-status));
    else
        log_warn("traces: http://%s:%s%s answers %d", exporter.host, exporter.port, exporter.path,
                 status);
}

/* Sleep between two tries. @return false: the process stops first */
static bool pause_before_retry(int64_t ms)
{
    int64_t until = clock_now_ms() + ms;
    bool stopping;

    pthread_mutex_lock(&exporter.lock);
    while (exporter.stop_ms == 0 && clock_now_ms() < until)
        wait_until(until);
    stopping = exporter.stop_ms > 0;
    pthread_mutex_unlock(&exporter.lock);
    return !stopping;
}

/* One batch, until it is taken, refused for good, or the process stops. */
static void send_batch(struct trace_span *spans, size_t n)
{
    struct buffer body;
    int64_t delay = RETRY_FIRST_MS;
    int status;

    buffer_init(&body, BATCH_BYTES);
    status = trace_write_otlp(exporter.process, spans, &body);
    if (status == 0)
        status = post(&body);
    while (is_transient(status)) {
        complain(status);
        if (!pause_before_retry(delay))
            break;
        delay = delay * 2 < RETRY_MAX_MS ? delay * 2 : RETRY_MAX_MS;
        status = post(&body);
    }
    if (status >= 200 && status < 300)
        exporter.complained = false;
    else
        complain(status);
    metric_add(exporter.outcomes[status >= 200 && status < 300 ? OUTCOME_EXPORTED : OUTCOME_FAILED],
               (double)n);
    buffer_fini(&body);
}

static void *export_all(void *arg)
{
    struct trace_span *spans;
    size_t n;

    (void)arg;
    pthread_setname_np(pthread_self(), "traces");
    while ((n = take_batch(&spans)) > 0) {
        if (patience() > 0)
            send_batch(spans, n);
        else
            metric_add(exporter.outcomes[OUTCOME_DROPPED], (double)n);
        free_list(spans);
    }
    pthread_mutex_lock(&exporter.lock);
    exporter.gone = true;
    pthread_cond_signal(&exporter.changed); /* trace_stop() */
    pthread_mutex_unlock(&exporter.lock);
    return NULL;
}

/* ---- start and stop -------------------------------------------------------------------------- */

static int set_endpoint(const char *endpoint)
{
    static const char PATH[] = "/v1/traces";
    const char *path;
    size_t n;
    int err = http_url_split(endpoint, exporter.host, exporter.port, &path);

    if (err < 0)
        return -EINVAL;
    n = strlen(path);
    while (n > 0 && path[n - 1] == '/')
        n--;
    if (strpbrk(path, " \t\r\n?#"))
        return -EINVAL;
    exporter.path = malloc(n + sizeof(PATH));
    if (!exporter.path)
        return -ENOMEM;
    memcpy(exporter.path, path, n);
    memcpy(exporter.path + n, PATH, sizeof(PATH));
    return 0;
}

static void make_metrics(void)
{
    static const char *const LABELS[N_OUTCOMES] = {"result=\"exported\"", "result=\"dropped\"",
                                                   "result=\"failed\""};

    for (int i = 0; i < N_OUTCOMES; i++)
        exporter.outcomes[i] = metrics_counter(
            "dragoman_trace_spans_total",
            "Spans that reached the collector, found the queue full, or were refused", LABELS[i]);
}

static int start_thread(void)
{
    pthread_condattr_t clock;
    sigset_t all, before;
    int err;

    pthread_condattr_init(&clock);
    pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
    pthread_cond_init(&exporter.changed, &clock);
    pthread_condattr_destroy(&clock);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    err = pthread_create(&exporter.thread, NULL, export_all, NULL);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return -err;
}

int trace_start(const char *endpoint, const char *process, double ratio)
{
    int err;

    if (!endpoint || !*endpoint)
        return 0;
    if (exporter.path)
        return -EALREADY;
    err = set_endpoint(endpoint);
    if (err < 0)
        return err;
    exporter.ratio = ratio;
    exporter.stop_ms = 0;
    exporter.gone = false;
    exporter.complained = false;
    snprintf(exporter.process, sizeof(exporter.process), "%s", process);
    make_metrics();
    err = start_thread();
    if (err < 0) {
        free(exporter.path);
        exporter.path = NULL;
        return err;
    }
    atomic_store_explicit(&exporter.enabled, true, memory_order_release);
    return 0;
}

/* @return whether the thread came to its end, not much later than its patience */
static bool stop_thread(void)
{
    int64_t until;
    bool gone;

    pthread_mutex_lock(&exporter.lock);
    atomic_store(&exporter.enabled, false);
    exporter.stop_ms = clock_now_ms() + STOP_MS;
    pthread_cond_signal(&exporter.changed);
    until = exporter.stop_ms + 1000;
    while (!exporter.gone && clock_now_ms() < until)
        wait_until(until);
    gone = exporter.gone;
    pthread_mutex_unlock(&exporter.lock);
    return gone;
}

void trace_stop(void)
{
    if (!trace_enabled())
        return;
    if (!stop_thread()) { /* a name server that is silent */
        pthread_detach(exporter.thread);
        return; /* what it uses stays */
    }
    pthread_join(exporter.thread, NULL);
    pthread_cond_destroy(&exporter.changed);
    free(exporter.path);
    exporter.path = NULL;
}
