#include "broker/broker.h"

#include "base/clock.h"
#include "base/log.h"
#include "broker/access.h"
#include "broker/wire.h"
#include "mesh/deadline.h"
#include "mesh/heartbeat.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <unistd.h>

#define NS_PER_MS 1000000
#define QUEUE_LIMIT 1024
#define QUEUE_BYTES ((size_t)64 << 20)
#define MESSAGE_BYTES ((size_t)MESH_MESSAGE_BYTES_DEFAULT)
#define NS_PER_S 1000000000
#define BATCH 64           /* messages of one side before the other has a turn */
#define BACKLOG_NS 2000000 /* a ROUTER cannot say when a peer takes more: ask again so soon */
#define LOOK_NS 1000000    /* a busy side must not keep the other from being heard */
#define LINGER_MS 500      /* for what was sent last */
#define PARTING_MS 300     /* for callers to leave when asked to */
#define IDLE_MAX_NS (60 * (int64_t)NS_PER_S)

enum { N_SIDES = 2 };

struct broker {
    struct broker_options options;
    void *context;
    bool own_context;
    struct wire wires[N_SIDES]; /* by enum broker_side */
    struct broker_core *core;
    struct access access;
    int wake;                /* eventfd */
    _Atomic int64_t stop_ns; /* when patience with running calls ends; 0: no stop yet */
    bool draining;
    int64_t drained_ns; /* when callers that stay are not waited for any more */
    int64_t flush_ns;   /* when to try what waits to be sent again; 0: nothing does */
    int64_t looked_ns;  /* when the sockets' descriptors were last asked */
    bool started;
    pthread_t thread;
};

/* ---- one step -------------------------------------------------------------------------------- */

static void step(struct broker *broker, const struct broker_event *event);

static void tell_lost(struct broker *broker)
{
    for (int side = 0; side < N_SIDES; side++)
        while (broker->wires[side].n_lost > 0) {
            struct wire *wire = &broker->wires[side];
            struct wire_lost lost = wire->lost[--wire->n_lost];
            struct broker_event event = {
                .kind = BROKER_LOST, .side = wire->side, .peer = lost.peer, .why = lost.why};

            step(broker, &event);
        }
}

static void step(struct broker *broker, const struct broker_event *event)
{
    struct broker_message *action = broker_core_step(broker->core, event, clock_now_ns());

    while (action) {
        struct broker_message *next = action->next;

        wire_act(&broker->wires[action->side], action);
        action = next;
    }
}

/* @return whether there was a message */
static bool receive(struct broker *broker, struct wire *wire)
{
    struct broker_event event = {.side = wire->side};
    struct mesh_frame frame;
    struct wire_sender sender;
    struct broker_message *message = broker_core_blank(broker->core);
    int err = message ? wire_recv(wire, message, &frame, &sender) : -EAGAIN;

    if (err == 0) {
        event.kind = BROKER_MESSAGE;
        event.message = message;
        event.frame = &frame;
        event.peer = message->message.peer;
        event.identity = sender.number;
        event.who = sender.known ? &sender.who : NULL;
        step(broker, &event);
        return true;
    }
    if (err == -EBADMSG || err == -EPROTONOSUPPORT) {
        event.kind = BROKER_RUBBISH;
        event.peer = message->message.peer;
        event.error = err;
        step(broker, &event);
    }
    broker_core_recycle(broker->core, message);
    return err == -EBADMSG || err == -EPROTONOSUPPORT;
}

/* Certificates have been taken away. */
static void take_back(struct broker *broker)
{
    for (int side = 0; side < N_SIDES; side++) {
        struct broker_event event = {.kind = BROKER_REVOKED, .side = (enum broker_side)side};
        uint16_t *gone = NULL;
        size_t n = access_take(&broker->access, event.side, &gone);

        for (size_t i = 0; i < n; i++) {
            event.identity = gone[i];
            step(broker, &event);
        }
        free(gone);
    }
}

static void receive_batch(struct broker *broker, struct wire *wire)
{
    for (int i = 0; i < BATCH && receive(broker, wire); i++)
        continue;
}

/* ---- the loop -------------------------------------------------------------------------------- */

/* How long nothing is to be done; negative: no time at all. */
static int64_t idle_ns(struct broker *broker)
{
    int64_t now = clock_now_ns();
    int64_t next = broker_core_next_ns(broker->core);
    int64_t stop = atomic_load(&broker->stop_ns);

    if (stop != 0 && stop < next)
        next = stop;
    if (stop != 0 && broker->draining && broker->drained_ns > now && broker->drained_ns < next)
        next = broker->drained_ns;
    if (broker->flush_ns != 0 && broker->flush_ns < next)
        next = broker->flush_ns;
    for (int side = 0; side < N_SIDES; side++) {
        int64_t at = wire_next_ns(&broker->wires[side]);

        next = at < next ? at : next;
    }
    return next < now + IDLE_MAX_NS ? next - now : IDLE_MAX_NS;
}

/* Ask the descriptors what has come; when there is nothing to do, sleep until something does. */
static void look(struct broker *broker, bool busy)
{
    struct pollfd fds[N_SIDES * MESH_TRANSPORT_FDS + 1];
    int64_t ns = busy ? 0 : idle_ns(broker);
    struct timespec time = {.tv_sec = ns / NS_PER_S, .tv_nsec = ns % NS_PER_S};
    uint64_t count;
    int n = 0;

    if (ns < 0)
        return;
    fds[n++] = (struct pollfd){.fd = broker->wake, .events = POLLIN};
    for (int side = 0; side < N_SIDES; side++)
        n += mesh_transport_fds(&broker->wires[side].transport, fds + n);
    n = ppoll(fds, (nfds_t)n, &time, NULL);
    broker->looked_ns = clock_now_ns();
    if (n <= 0)
        return;
    if (fds[0].revents && read(broker->wake, &count, sizeof(count)) < 0)
        log_debug("cannot read the wake-up: %s", strerror(errno));
    n = 1;
    for (int side = 0; side < N_SIDES; side++)
        n += mesh_transport_polled(&broker->wires[side].transport, fds + n);
}

static void flush(struct broker *broker, int64_t now)
{
    bool backlog = false;
    bool stuck = false;

    for (int side = 0; side < N_SIDES; side++) {
        wire_flush(&broker->wires[side]);
        stuck |= !LIST_EMPTY(&broker->wires[side].stuck);
    }
    if (stuck && broker->flush_ns == 0)
        broker->flush_ns = now + BACKLOG_NS;
    if (broker->flush_ns == 0 || now < broker->flush_ns)
        return;
    for (int side = 0; side < N_SIDES; side++)
        backlog |= wire_retry(&broker->wires[side]);
    broker->flush_ns = backlog ? now + BACKLOG_NS : 0;
}

/* Whether there may be messages that no descriptor tells of. */
static bool is_uncertain(const struct broker *broker, int side)
{
    const struct wire *wire = &broker->wires[side];

    return wire->inbox.opened || mesh_transport_is_uncertain(&wire->transport);
}

/* One round: what has come, what is due, what still waits to be sent. @return whether to go on without
 * waiting. A lost peer counts as such only after all that it had sent has been read. */
static bool round_once(struct broker *broker)
{
    struct broker_event tick = {.kind = BROKER_TICK};
    int64_t now = clock_now_ns();
    bool unsure = false;

    if (atomic_load_explicit(&broker->access.news, memory_order_relaxed))
        take_back(broker);
    for (int side = N_SIDES - 1; side >= 0; side--) { /* ends first: they free slots */
        wire_watch(&broker->wires[side], now);
        if (is_uncertain(broker, side))
            receive_batch(broker, &broker->wires[side]);
    }
    if (!is_uncertain(broker, BROKER_FRONT) && !is_uncertain(broker, BROKER_BACK))
        tell_lost(broker);
    if (broker_core_next_ns(broker->core) <= clock_now_ns())
        step(broker, &tick);
    flush(broker, now);
    for (int side = 0; side < N_SIDES; side++)
        unsure |= is_uncertain(broker, side) || broker->wires[side].n_lost > 0;
    return unsure;
}

/* Callers leave on GOAWAY as their calls end: after their BYE no OPEN of theirs is under way, and none is lost. @return
 * whether it is time to leave */
static bool stopping(struct broker *broker)
{
    struct broker_event drain = {.kind = BROKER_DRAIN};
    int64_t stop = atomic_load(&broker->stop_ns);

    if (stop == 0)
        return false;
    if (!broker->draining) {
        broker->draining = true;
        broker->drained_ns = clock_now_ns() + PARTING_MS * NS_PER_MS;
        step(broker, &drain);
    }
    if (clock_now_ns() >= stop)
        return true;
    return broker_core_idle(broker->core) &&
           (broker_core_callers(broker->core) == 0 || clock_now_ns() >= broker->drained_ns);
}

static void farewell(struct broker *broker)
{
    struct broker_event stop = {.kind = BROKER_STOP};
    struct timespec pause = {.tv_nsec = BACKLOG_NS};
    int64_t until = clock_now_ns() + LINGER_MS * (int64_t)NS_PER_MS;
    bool backlog = true;

    step(broker, &stop);
    wire_flush(&broker->wires[BROKER_FRONT]);
    wire_flush(&broker->wires[BROKER_BACK]);
    while (backlog && clock_now_ns() < until) {
        backlog = wire_retry(&broker->wires[BROKER_FRONT]);
        backlog |= wire_retry(&broker->wires[BROKER_BACK]);
        if (backlog)
            nanosleep(&pause, NULL);
    }
}

static void *serve(void *arg)
{
    struct broker *broker = arg;

    pthread_setname_np(pthread_self(), "broker");
    while (!stopping(broker)) {
        bool busy = round_once(broker);

        if (!busy || clock_now_ns() - broker->looked_ns >= LOOK_NS)
            look(broker, busy);
    }
    farewell(broker);
    return NULL;
}

/* ---- life ------------------------------------------------------------------------------------ */

static void use_defaults(struct broker_options *options)
{
    if (options->queue_limit == 0)
        options->queue_limit = QUEUE_LIMIT;
    if (options->queue_bytes == 0)
        options->queue_bytes = QUEUE_BYTES;
    if (options->max_message_bytes == 0)
        options->max_message_bytes = MESSAGE_BYTES;
    if (options->heartbeat_ms == 0)
        options->heartbeat_ms = MESH_HEARTBEAT_MS_DEFAULT;
}

static int core_open(struct broker *broker)
{
    struct broker_core_options options = {
        .queue_limit = broker->options.queue_limit,
        .queue_bytes = broker->options.queue_bytes,
        .max_message_bytes = broker->options.max_message_bytes,
        .heartbeat_ms = broker->options.heartbeat_ms,
        .settle_ms = broker->options.settle_ms,
        .max_session_age_ms = broker->options.max_session_age_ms,
        .weights = broker->options.weights,
        .n_weights = broker->options.n_weights,
    };

    if (getrandom(&options.seed, sizeof(options.seed), 0) != sizeof(options.seed))
        return -errno;
    return broker_core_create(&options, clock_now_ns(), &broker->core);
}

static int sockets_open(struct broker *broker)
{
    const char *const *endpoints[N_SIDES] = {
        [BROKER_FRONT] = broker->options.front, [BROKER_BACK] = broker->options.back};
    int err = 0;

    if (!broker->context) {
        broker->context = zmq_ctx_new();
        broker->own_context = true;
    }
    if (!broker->context)
        return -ENOMEM;
    for (int side = 0; err == 0 && side < N_SIDES; side++) {
        err =
            wire_open(&broker->wires[side], (enum broker_side)side, broker->context,
                      endpoints[side], broker->options.max_message_bytes, broker->options.security);
        broker->wires[side].core = broker->core;
    }
    return err;
}

/* Signals are the main thread's. */
static int thread_start(struct broker *broker)
{
    sigset_t all;
    sigset_t before;
    int err;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    err = pthread_create(&broker->thread, NULL, serve, broker);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    broker->started = err == 0;
    return -err;
}

int broker_start(const struct broker_options *options, struct broker **out)
{
    struct broker *broker = calloc(1, sizeof(*broker));
    int err = -ENOMEM;

    if (!broker)
        return err;
    broker->options = *options;
    broker->context = options->context;
    access_init(&broker->access, options->security);
    broker->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    use_defaults(&broker->options);
    err = broker->wake < 0 ? -errno : core_open(broker);
    if (err == 0)
        err = sockets_open(broker);
    if (err == 0)
        err = thread_start(broker);
    if (err == 0) {
        *out = broker;
        broker = NULL; /* the caller's now */
    }
    broker_stop(&broker, 0);
    return err;
}

int broker_reload(struct broker *broker)
{
    uint64_t one = 1;
    int err = access_reload(&broker->access);

    if (write(broker->wake, &one, sizeof(one)) < 0)
        log_error("cannot wake the broker: %s", strerror(errno));
    return err;
}

void broker_stop(struct broker **broker, int64_t grace_ms)
{
    struct broker *self = *broker;
    uint64_t one = 1;

    if (!self)
        return;
    *broker = NULL;
    if (self->started) {
        atomic_store(&self->stop_ns, clock_now_ns() + grace_ms * NS_PER_MS);
        if (write(self->wake, &one, sizeof(one)) < 0)
            log_error("cannot wake the broker: %s", strerror(errno));
        pthread_join(self->thread, NULL);
    }
    for (int side = 0; side < N_SIDES; side++)
        wire_close(&self->wires[side], self->started ? LINGER_MS : 0);
    broker_core_destroy(&self->core);
    if (self->own_context)
        zmq_ctx_term(self->context);
    if (self->wake >= 0)
        close(self->wake);
    access_fini(&self->access);
    free(self);
}

static const char *endpoint(const struct wire *wire, size_t i)
{
    return i < wire->n_endpoints ? wire->endpoints[i] : NULL;
}

const char *broker_front_endpoint(const struct broker *broker, size_t i)
{
    return endpoint(&broker->wires[BROKER_FRONT], i);
}

const char *broker_back_endpoint(const struct broker *broker, size_t i)
{
    return endpoint(&broker->wires[BROKER_BACK], i);
}
