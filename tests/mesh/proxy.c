#include "tests/mesh/proxy.h"

#include "base/clock.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#define LINKS_MAX 128
#define CHUNK_BYTES 65536
#define QUEUE_BYTES ((size_t)4 << 20) /* of one direction; then it is not read */
#define ONE_BY_ONE 256                /* bytes of a chunk that leave alone */
#define SLICE_MAX 1400

struct chunk {
    struct chunk *next;
    int64_t due_ns;
    size_t size, sent;
    uint8_t bytes[];
};

/* What goes one way. */
struct lane {
    struct chunk *head, **tail;
    size_t queued;
    bool closed; /* for reading */
};

struct pair {
    int fds[2];           /* the caller's, the target's */
    struct lane lanes[2]; /* lanes[i] is read from fds[i] */
};

struct proxy {
    struct proxy_options options;
    uint16_t port;
    int listener, wake;
    pthread_t thread;
    atomic_int mode, cuts, connections, accepted;
    atomic_bool stop;
    int cuts_done;
    uint64_t random;
    struct pair pairs[LINKS_MAX];
    int n_pairs;
};

static struct sockaddr_in loopback(uint16_t port)
{
    return (struct sockaddr_in){
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

/* ---- one connection -------------------------------------------------------------------------- */

static void lane_clear(struct lane *lane)
{
    while (lane->head) {
        struct chunk *chunk = lane->head;

        lane->head = chunk->next;
        free(chunk);
    }
    *lane = (struct lane){.tail = &lane->head};
}

static void pair_close(struct proxy *proxy, int i, bool reset)
{
    struct pair *pair = &proxy->pairs[i];
    struct linger hard = {.l_onoff = 1, .l_linger = 0};

    for (int side = 0; side < 2; side++) {
        if (reset)
            setsockopt(pair->fds[side], SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
        close(pair->fds[side]);
        lane_clear(&pair->lanes[side]);
    }
    *pair = proxy->pairs[--proxy->n_pairs];
    for (int side = 0; side < 2; side++) { /* it has moved */
        if (!pair->lanes[side].head)
            pair->lanes[side].tail = &pair->lanes[side].head;
    }
    atomic_store(&proxy->connections, proxy->n_pairs);
}

static void tune(int fd)
{
    int one = 1;

    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
}

static void pair_accept(struct proxy *proxy)
{
    struct sockaddr_in to = loopback(proxy->options.target);
    int caller = accept4(proxy->listener, NULL, NULL, SOCK_CLOEXEC);
    int target = -1;
    struct pair *pair;

    if (caller < 0)
        return;
    atomic_fetch_add(&proxy->accepted, 1);
    if (proxy->mode != PROXY_REFUSE && proxy->n_pairs < LINKS_MAX)
        target = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (target < 0 || connect(target, (struct sockaddr *)&to, sizeof(to)) < 0) {
        close(caller);
        if (target >= 0)
            close(target);
        return;
    }
    tune(caller);
    tune(target);
    pair = &proxy->pairs[proxy->n_pairs++];
    *pair = (struct pair){.fds = {caller, target}};
    pair->lanes[0].tail = &pair->lanes[0].head;
    pair->lanes[1].tail = &pair->lanes[1].head;
    atomic_store(&proxy->connections, proxy->n_pairs);
}

/* @return false: an error, the connection is over */
static bool lane_read(struct proxy *proxy, struct pair *pair, int side)
{
    struct lane *lane = &pair->lanes[side];
    struct chunk *chunk = malloc(sizeof(*chunk) + CHUNK_BYTES);
    ssize_t n = chunk ? read(pair->fds[side], chunk->bytes, CHUNK_BYTES) : -1;

    if (n <= 0) {
        free(chunk);
        lane->closed = n == 0;
        return n == 0 || errno == EAGAIN;
    }
    *chunk = (struct chunk){.size = (size_t)n,
                            .due_ns = clock_now_ns() + proxy->options.delay_ms * (int64_t)1000000};
    *lane->tail = chunk;
    lane->tail = &chunk->next;
    lane->queued += chunk->size;
    return true;
}

static size_t slice_of(struct proxy *proxy, const struct chunk *chunk)
{
    size_t left = chunk->size - chunk->sent;
    size_t most = left;

    if (proxy->options.slice && chunk->sent < ONE_BY_ONE) {
        most = 1;
    } else if (proxy->options.slice) {
        proxy->random = proxy->random * 6364136223846793005u + 1442695040888963407u;
        most = 1 + (size_t)(proxy->random >> 33) % SLICE_MAX;
    }
    return most < left ? most : left;
}

/* @return false: the connection is over */
static bool lane_write(struct proxy *proxy, struct pair *pair, int side, int64_t now_ns)
{
    struct lane *lane = &pair->lanes[side];

    while (lane->head && lane->head->due_ns <= now_ns) {
        struct chunk *chunk = lane->head;
        ssize_t n = send(pair->fds[!side], chunk->bytes + chunk->sent, slice_of(proxy, chunk),
                         MSG_NOSIGNAL);

        if (n < 0)
            return errno == EAGAIN;
        chunk->sent += (size_t)n;
        if (chunk->sent < chunk->size)
            continue;
        lane->queued -= chunk->size;
        lane->head = chunk->next;
        if (!lane->head)
            lane->tail = &lane->head;
        free(chunk);
    }
    return !(lane->closed && !lane->head);
}

/* ---- the thread ------------------------------------------------------------------------------ */

static bool lane_due(const struct lane *lane, int64_t now_ns)
{
    return lane->head && lane->head->due_ns <= now_ns;
}

static int fill_polls(struct proxy *proxy, struct pollfd *polls, int64_t now_ns, int *wait_ms)
{
    int n = 0;

    *wait_ms = -1;
    polls[n++] = (struct pollfd){.fd = proxy->wake, .events = POLLIN};
    polls[n++] = (struct pollfd){.fd = proxy->listener, .events = POLLIN};
    for (int i = 0; i < proxy->n_pairs; i++) {
        for (int side = 0; side < 2; side++) {
            const struct pair *pair = &proxy->pairs[i];
            const struct lane *in = &pair->lanes[side];
            short events = 0;

            if (proxy->mode == PROXY_HOLE) {
                polls[n++] = (struct pollfd){.fd = -1};
                continue;
            }
            if (!in->closed && in->queued < QUEUE_BYTES)
                events |= POLLIN;
            if (lane_due(&pair->lanes[!side], now_ns))
                events |= POLLOUT;
            if (in->head && in->head->due_ns > now_ns) {
                int ms = (int)((in->head->due_ns - now_ns) / 1000000) + 1;

                *wait_ms = *wait_ms < 0 || ms < *wait_ms ? ms : *wait_ms;
            }
            polls[n++] = (struct pollfd){.fd = pair->fds[side], .events = events};
        }
    }
    return n;
}

static void serve_pairs(struct proxy *proxy, const struct pollfd *polls)
{
    for (int i = proxy->n_pairs - 1; i >= 0; i--) {
        struct pair *pair = &proxy->pairs[i];
        const struct pollfd *at = polls + 2 + 2 * i;
        bool alive = true;

        for (int side = 0; side < 2 && alive; side++) {
            if (at[side].revents & (POLLIN | POLLHUP | POLLERR))
                alive = lane_read(proxy, pair, side);
        }
        for (int side = 0; side < 2 && alive; side++)
            alive = lane_write(proxy, pair, side, clock_now_ns());
        if (!alive)
            pair_close(proxy, i, false);
    }
}

static void *serve(void *arg)
{
    struct proxy *proxy = arg;
    struct pollfd polls[2 + 2 * LINKS_MAX];

    while (!proxy->stop) {
        int wait_ms;
        int n = fill_polls(proxy, polls, clock_now_ns(), &wait_ms);
        uint64_t woken;

        if (poll(polls, (nfds_t)n, wait_ms) < 0)
            continue;
        if (polls[0].revents && read(proxy->wake, &woken, sizeof(woken)) < 0)
            continue;
        if (proxy->mode != PROXY_HOLE)
            serve_pairs(proxy, polls);
        if (proxy->cuts_done != proxy->cuts) {
            proxy->cuts_done = proxy->cuts;
            while (proxy->n_pairs > 0)
                pair_close(proxy, proxy->n_pairs - 1, true);
        }
        if (polls[1].revents)
            pair_accept(proxy);
    }
    return NULL;
}

static void wake(struct proxy *proxy)
{
    uint64_t one = 1;

    if (write(proxy->wake, &one, sizeof(one)) < 0)
        abort(); /* an eventfd takes it always */
}

int proxy_start(const struct proxy_options *options, struct proxy **out)
{
    struct sockaddr_in at = loopback(options->listen);
    socklen_t size = sizeof(at);
    struct proxy *proxy = calloc(1, sizeof(*proxy));
    int one = 1;

    if (!proxy)
        return -ENOMEM;
    proxy->options = *options;
    proxy->random = 1;
    proxy->wake = eventfd(0, EFD_CLOEXEC);
    proxy->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    setsockopt(proxy->listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (bind(proxy->listener, (struct sockaddr *)&at, size) < 0 ||
        listen(proxy->listener, LINKS_MAX) < 0 ||
        getsockname(proxy->listener, (struct sockaddr *)&at, &size) < 0 ||
        pthread_create(&proxy->thread, NULL, serve, proxy) != 0) {
        int err = -errno;

        close(proxy->listener);
        close(proxy->wake);
        free(proxy);
        return err;
    }
    proxy->port = ntohs(at.sin_port);
    *out = proxy;
    return 0;
}

uint16_t proxy_port(const struct proxy *proxy)
{
    return proxy->port;
}

void proxy_set(struct proxy *proxy, enum proxy_mode mode)
{
    atomic_store(&proxy->mode, mode);
    wake(proxy);
}

void proxy_cut(struct proxy *proxy)
{
    atomic_fetch_add(&proxy->cuts, 1);
    wake(proxy);
}

int proxy_connections(const struct proxy *proxy)
{
    return atomic_load(&proxy->connections);
}

int proxy_accepted(const struct proxy *proxy)
{
    return atomic_load(&proxy->accepted);
}

void proxy_stop(struct proxy **proxy_ptr)
{
    struct proxy *proxy = *proxy_ptr;

    if (!proxy)
        return;
    atomic_store(&proxy->stop, true);
    wake(proxy);
    pthread_join(proxy->thread, NULL);
    while (proxy->n_pairs > 0)
        pair_close(proxy, proxy->n_pairs - 1, true);
    close(proxy->listener);
    close(proxy->wake);
    free(proxy);
    *proxy_ptr = NULL;
}
