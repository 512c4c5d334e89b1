#include "mesh/zap.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/metrics.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <zmq.h>

#define ENDPOINT "inproc://zeromq.zap.01"
#define VERSION "1.0"
#define PART_MAX 256 /* bytes, of a request's part */
#define DOMAIN_MAX 64
#define LOG_NS INT64_C(100000000) /* between two lines: strangers must not fill the log */

/* What one request consists of, in order. */
enum { VERSION_AT, ID_AT, DOMAIN_AT, ADDRESS_AT, ROUTING_ID_AT, MECHANISM_AT, KEY_AT, N_PARTS };

struct part {
    size_t size;
    char data[PART_MAX + 1]; /* ended by a NUL */
};

/* The answering thread of one context. */
struct handler {
    LIST_ENTRY(handler) link;
    void *context;
    void *socket, *stop; /* the thread's: requests, and a word that it is time */
    void *stopper;       /* the other end of `stop` */
    pthread_t thread;
    unsigned users;
    int64_t logged_ns;
};

/* One socket that has joined. */
struct mesh_zap {
    LIST_ENTRY(mesh_zap) link;
    struct handler *handler;
    struct mesh_keyring *keyring;
    char domain[DOMAIN_MAX]; /* "mesh.client/7": of no other */
    struct metric *accepted, *refused;
};

static pthread_mutex_t life =
    PTHREAD_MUTEX_INITIALIZER; /* held by who joins or leaves: of `handlers` */
static pthread_mutex_t lock =
    PTHREAD_MUTEX_INITIALIZER; /* of `members`: threads take it to answer */
static LIST_HEAD(, handler) handlers = LIST_HEAD_INITIALIZER(handlers);
static LIST_HEAD(, mesh_zap) members = LIST_HEAD_INITIALIZER(members);

/* ---- requests -------------------------------------------------------------------------------- */

/* @return how many parts it has; those past the last are dropped, those too long are left empty */
static int receive(void *socket, struct part parts[N_PARTS])
{
    bool more = true;
    int n = 0;

    while (more) {
        zmq_msg_t part;

        zmq_msg_init(&part);
        if (zmq_msg_recv(&part, socket, ZMQ_DONTWAIT) < 0)
            return n > 0 ? n : -errno;
        if (n < N_PARTS) {
            parts[n].size = zmq_msg_size(&part) <= PART_MAX ? zmq_msg_size(&part) : 0;
            memcpy(parts[n].data, zmq_msg_data(&part), parts[n].size);
            parts[n].data[parts[n].size] = '\0';
        }
        n++;
        more = zmq_msg_more(&part);
        zmq_msg_close(&part);
    }
    return n;
}

static void reply(void *socket, const struct part *id, const char *code, const char *text,
                  const char *user)
{
    zmq_send(socket, VERSION, strlen(VERSION), ZMQ_SNDMORE | ZMQ_DONTWAIT);
    zmq_send(socket, id->data, id->size, ZMQ_SNDMORE | ZMQ_DONTWAIT);
    zmq_send(socket, code, strlen(code), ZMQ_SNDMORE | ZMQ_DONTWAIT);
    zmq_send(socket, text, strlen(text), ZMQ_SNDMORE | ZMQ_DONTWAIT);
    zmq_send(socket, user, strlen(user), ZMQ_SNDMORE | ZMQ_DONTWAIT);
    zmq_send(socket, "", 0, ZMQ_DONTWAIT);
}

/* Under the lock, which keeps its keyring from going away. */
static struct mesh_zap *find_member(const struct handler *handler, const char *domain)
{
    struct mesh_zap *zap;

    LIST_FOREACH (zap, &members, link)
        if (zap->handler == handler && strcmp(zap->domain, domain) == 0)
            return zap;
    return NULL;
}

/* Say who it was: an operator may want to let that key in. */
static void log_refusal(struct handler *handler, const struct mesh_zap *zap, const char *address,
                        const uint8_t *key)
{
    char text[MESH_KEY_TEXT];
    int64_t now = clock_now_ns();

    if (now - handler->logged_ns < LOG_NS || !zmq_z85_encode(text, key, MESH_KEY_BYTES))
        return;
    handler->logged_ns = now;
    log_warn("refused %s at %.*s: no certificate in '%s' has its key \"%s\"", address,
             (int)strcspn(zap->domain, "/"), zap->domain, mesh_keyring_folder(zap->keyring), text);
}

/* @return the key's number; 0: refused */
static uint16_t judge(struct handler *handler, const struct part *parts)
{
    const uint8_t *key = (const uint8_t *)parts[KEY_AT].data;
    struct mesh_zap *zap;
    uint16_t number = 0;

    pthread_mutex_lock(&lock);
    zap = find_member(handler, parts[DOMAIN_AT].data);
    if (zap && strcmp(parts[MECHANISM_AT].data, "CURVE") == 0 &&
        parts[KEY_AT].size == MESH_KEY_BYTES)
        number = mesh_keyring_number(zap->keyring, key);
    if (zap)
        metric_add(number ? zap->accepted : zap->refused, 1);
    if (zap && !number && parts[KEY_AT].size == MESH_KEY_BYTES)
        log_refusal(handler, zap, parts[ADDRESS_AT].data, key);
    pthread_mutex_unlock(&lock);
    return number;
}

/* @return whether there was one */
static bool answer(struct handler *handler)
{
    struct part parts[N_PARTS] = {0};
    int n = receive(handler->socket, parts);
    char user[8];
    uint16_t number;

    if (n < 0)
        return false;
    if (n != N_PARTS || strcmp(parts[VERSION_AT].data, VERSION) != 0) {
        reply(handler->socket, &parts[ID_AT], "500", "not a request of ZAP 1.0 with CURVE", "");
        return true;
    }
    number = judge(handler, parts);
    snprintf(user, sizeof(user), "%u", number);
    if (number)
        reply(handler->socket, &parts[ID_AT], "200", "OK", user);
    else
        reply(handler->socket, &parts[ID_AT], "400", "this key is not known here", "");
    return true;
}

static void *run(void *arg)
{
    struct handler *handler = arg;
    zmq_pollitem_t items[] = {{.socket = handler->socket, .events = ZMQ_POLLIN},
                              {.socket = handler->stop, .events = ZMQ_POLLIN}};

    pthread_setname_np(pthread_self(), "mesh-zap");
    while (!(items[1].revents & ZMQ_POLLIN)) {
        if (zmq_poll(items, 2, -1) < 0 && errno != EINTR)
            break;
        while (answer(handler))
            ;
    }
    zmq_unbind(handler->socket, ENDPOINT); /* free for the next handler at once */
    zmq_close(handler->socket);
    zmq_close(handler->stop);
    return NULL;
}

/* ---- the thread ------------------------------------------------------------------------------ */

static void *open_socket(void *context, int type)
{
    void *socket = zmq_socket(context, type);
    int linger = 0;

    if (socket)
        zmq_setsockopt(socket, ZMQ_LINGER, &linger, sizeof(linger));
    return socket;
}

static int open_sockets(struct handler *handler)
{
    static unsigned
        serial; /* sockets are closed later than zmq_close() returns: no name is used again */
    char stop[64];

    snprintf(stop, sizeof(stop), "inproc://mesh.zap.stop.%u", ++serial);
    handler->socket = open_socket(handler->context, ZMQ_REP);
    handler->stop = open_socket(handler->context, ZMQ_PAIR);
    handler->stopper = open_socket(handler->context, ZMQ_PAIR);
    if (!handler->socket || !handler->stop || !handler->stopper ||
        zmq_bind(handler->stop, stop) < 0 || zmq_connect(handler->stopper, stop) < 0 ||
        zmq_bind(handler->socket, ENDPOINT) < 0)
        return errno > 0 ? -errno : -ENOMEM;
    return 0;
}

static void close_sockets(struct handler *handler)
{
    if (handler->socket)
        zmq_close(handler->socket);
    if (handler->stop)
        zmq_close(handler->stop);
    if (handler->stopper)
        zmq_close(handler->stopper);
}

static int start_thread(struct handler *handler)
{
    sigset_t all, before;
    int err;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    err = pthread_create(&handler->thread, NULL, run, handler);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return -err;
}

static int find_handler(void *context, struct handler **out)
{
    struct handler *handler;
    int err;

    LIST_FOREACH (handler, &handlers, link) {
        if (handler->context == context) {
            *out = handler;
            return 0;
        }
    }
    handler = calloc(1, sizeof(*handler));
    if (!handler)
        return -ENOMEM;
    handler->context = context;
    handler->logged_ns = clock_now_ns() - LOG_NS;
    err = open_sockets(handler);
    if (err == 0)
        err = start_thread(handler);
    if (err < 0) {
        close_sockets(handler);
        free(handler);
        return err;
    }
    LIST_INSERT_HEAD(&handlers, handler, link);
    *out = handler;
    return 0;
}

/* The thread has no lock to wait for and no socket that blocks: it ends at once. */
static void handler_stop(struct handler *handler)
{
    zmq_send(handler->stopper, "", 0, 0);
    pthread_join(handler->thread, NULL);
    zmq_close(handler->stopper);
    free(handler);
}

/* ---- join, leave ----------------------------------------------------------------------------- */

static struct metric *counter(const char *domain, const char *result)
{
    char labels[128];

    snprintf(labels, sizeof(labels), "domain=\"%s\",result=\"%s\"", domain, result);
    return metrics_counter("mesh_handshakes_total", "Keys that ZAP was asked about", labels);
}

int mesh_zap_join(void *context, void *socket, const char *domain, struct mesh_keyring *keyring,
                  struct mesh_zap **out)
{
    static unsigned serial;
    struct mesh_zap *zap = calloc(1, sizeof(*zap));
    int err;

    if (!zap)
        return -ENOMEM;
    zap->keyring = keyring;
    zap->accepted = counter(domain, "accepted");
    zap->refused = counter(domain, "refused");
    pthread_mutex_lock(&life);
    snprintf(zap->domain, sizeof(zap->domain), "%s/%u", domain, ++serial);
    err = find_handler(context, &zap->handler);
    if (err == 0) {
        zap->handler->users++;
        pthread_mutex_lock(&lock);
        LIST_INSERT_HEAD(&members, zap, link);
        pthread_mutex_unlock(&lock);
    }
    pthread_mutex_unlock(&life);
    if (err < 0) {
        free(zap);
        return err;
    }
    if (zmq_setsockopt(socket, ZMQ_ZAP_DOMAIN, zap->domain, strlen(zap->domain)) < 0) {
        err = -errno;
        mesh_zap_leave(&zap);
        return err;
    }
    *out = zap;
    return 0;
}

void mesh_zap_leave(struct mesh_zap **zap)
{
    struct mesh_zap *self = *zap;

    if (!self)
        return;
    *zap = NULL;
    pthread_mutex_lock(&life);
    pthread_mutex_lock(&lock);
    LIST_REMOVE(self, link);
    pthread_mutex_unlock(&lock);
    if (--self->handler->users == 0) {
        LIST_REMOVE(self->handler, link);
        handler_stop(self->handler);
    }
    pthread_mutex_unlock(&life);
    free(self);
}
