#include "base/admin.h"

#include "base/buffer.h"
#include "base/log.h"
#include "base/metrics.h"

#include <arpa/inet.h>
#include <errno.h>
#include <libwebsockets.h>
#include <netdb.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define CONNECTIONS_MAX 64          /* more are closed at once */
#define PAGE_MAX ((size_t)16 << 20) /* bytes of one answer */
#define CHUNK 16384                 /* bytes written in one go */
#define REQUEST_TIMEOUT_S 5
#define KEEPALIVE_S 30
#define REASON_MAX 256

struct admin {
    struct lws_context *context;
    struct lws_vhost *vhost;
    int listener;
    int port;
    atomic_bool stopping;
    bool started;
    pthread_t thread;
};

/* What is left to write of one answer. */
struct page {
    struct buffer body;
    size_t sent;
};

static pthread_mutex_t unready_lock = PTHREAD_MUTEX_INITIALIZER;
static char unready[REASON_MAX];

void admin_set_unready(const char *reason)
{
    pthread_mutex_lock(&unready_lock);
    snprintf(unready, sizeof(unready), "%s", reason ? reason : "");
    pthread_mutex_unlock(&unready_lock);
}

/* Fill the body for a path; the HTTP status. */
static unsigned page_fill(struct buffer *body, const char *path)
{
    unsigned status = HTTP_STATUS_OK;

    if (strcmp(path, "/metrics") == 0)
        return metrics_render(body) < 0 ? HTTP_STATUS_INTERNAL_SERVER_ERROR : status;
    if (strcmp(path, "/healthz") == 0) {
        buffer_printf(body, "ok\n");
    } else if (strcmp(path, "/readyz") == 0) {
        pthread_mutex_lock(&unready_lock);
        if (unready[0])
            status = HTTP_STATUS_SERVICE_UNAVAILABLE;
        buffer_printf(body, "%s\n", unready[0] ? unready : "ready");
        pthread_mutex_unlock(&unready_lock);
    } else {
        status = HTTP_STATUS_NOT_FOUND;
        buffer_printf(body, "no such page: /metrics, /healthz and /readyz are here\n");
    }
    return status;
}

static int send_headers(struct lws *wsi, struct page *page, unsigned status)
{
    unsigned char headers[LWS_PRE + 1024];
    unsigned char *start = headers + LWS_PRE;
    unsigned char *at = start;
    unsigned char *end = headers + sizeof(headers) - 1;

    if (lws_add_http_common_headers(wsi, status, "text/plain; version=0.0.4; charset=utf-8",
                                    page->body.size, &at, end) ||
        lws_finalize_write_http_header(wsi, start, &at, end))
        return -1;
    return 0;
}

static int answer(struct lws *wsi, struct page *page, const char *path)
{
    bool head = lws_hdr_total_length(wsi, WSI_TOKEN_HEAD_URI) > 0;
    unsigned status = HTTP_STATUS_METHOD_NOT_ALLOWED;

    buffer_fini(&page->body); /* of the request before, on a connection kept alive */
    buffer_init(&page->body, PAGE_MAX);
    page->sent = 0;
    if (head || lws_hdr_total_length(wsi, WSI_TOKEN_GET_URI) > 0)
        status = page_fill(&page->body, path);
    else
        buffer_printf(&page->body, "only GET and HEAD are answered\n");
    if (send_headers(wsi, page, status) < 0)
        return -1;
    if (status == HTTP_STATUS_METHOD_NOT_ALLOWED)
        lws_set_timeout(wsi, PENDING_TIMEOUT_HTTP_CONTENT, REQUEST_TIMEOUT_S);
    if (head || page->body.size == 0)
        return lws_http_transaction_completed(wsi) ? -1 : 0;
    lws_callback_on_writable(wsi);
    return 0;
}

static int write_chunk(struct lws *wsi, struct page *page)
{
    unsigned char chunk[LWS_PRE + CHUNK];
    size_t n = page->body.size - page->sent;
    bool last = n <= CHUNK;

    if (page->body.size == 0)
        return 0;
    if (!last)
        n = CHUNK;
    memcpy(chunk + LWS_PRE, page->body.data + page->sent, n);
    if (lws_write(wsi, chunk + LWS_PRE, n, last ? LWS_WRITE_HTTP_FINAL : LWS_WRITE_HTTP) < 0)
        return -1;
    page->sent += n;
    if (last) {
        buffer_fini(&page->body);
        return lws_http_transaction_completed(wsi) ? -1 : 0;
    }
    lws_callback_on_writable(wsi);
    return 0;
}

static int on_http(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in,
                   size_t size)
{
    struct page *page = user;

    switch (reason) {
    case LWS_CALLBACK_HTTP:
        return answer(wsi, page, in ? in : "");
    case LWS_CALLBACK_HTTP_WRITEABLE:
        return write_chunk(wsi, page);
    case LWS_CALLBACK_HTTP_DROP_PROTOCOL:
    case LWS_CALLBACK_CLOSED_HTTP:
        if (page)
            buffer_fini(&page->body);
        return 0;
    case LWS_CALLBACK_FILTER_PROTOCOL_CONNECTION: /* a WebSocket: not here */
        return -1;
    default:
        return lws_callback_http_dummy(wsi, reason, user, in, size);
    }
}

static int on_listener(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in,
                       size_t size)
{
    struct admin *admin = lws_context_user(lws_get_context(wsi));
    int fd;

    (void)user;
    (void)in;
    (void)size;
    if (reason != LWS_CALLBACK_RAW_RX_FILE)
        return 0;
    fd = accept4(admin->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd >= 0)
        lws_adopt_socket_vhost(admin->vhost, fd); /* closes it when it cannot */
    return 0;
}

static const struct lws_protocols PROTOCOLS[] = {
    {.name = "http", .callback = on_http, .per_session_data_size = sizeof(struct page)},
    {.name = "listener", .callback = on_listener},
    {.name = NULL},
};

/* "host:port", "[v6]:port", ":port" into its halves. */
static int address_split(const char *address, char *host, size_t size, const char **port)
{
    const char *colon = strrchr(address, ':');
    size_t n = colon ? (size_t)(colon - address) : 0;
    bool bracketed = n >= 2 && address[0] == '[' && address[n - 1] == ']';

    if (!colon || !colon[1] || strspn(colon + 1, "0123456789") != strlen(colon + 1))
        return -EINVAL;
    if (bracketed) {
        address++;
        n -= 2;
    }
    if (n >= size || atol(colon + 1) > 65535 || strlen(colon + 1) > 5)
        return -EINVAL;
    memcpy(host, address, n);
    host[n] = '\0';
    *port = colon + 1;
    return 0;
}

static int listen_on(const struct addrinfo *info, int *out)
{
    int yes = 1;
    int err = 0;
    int fd = socket(info->ai_family, info->ai_socktype | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return -errno;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
    if (bind(fd, info->ai_addr, info->ai_addrlen) < 0 || listen(fd, CONNECTIONS_MAX) < 0)
        err = -errno;
    if (err < 0)
        close(fd);
    else
        *out = fd;
    return err;
}

static int socket_port(int fd)
{
    struct sockaddr_storage name;
    socklen_t size = sizeof(name);

    if (getsockname(fd, (struct sockaddr *)&name, &size) < 0)
        return -errno;
    return ntohs(name.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&name)->sin6_port
                                            : ((struct sockaddr_in *)&name)->sin_port);
}

static int listener_open(const char *address, struct admin *admin)
{
    struct addrinfo hints = {.ai_flags = AI_PASSIVE | AI_NUMERICSERV, .ai_socktype = SOCK_STREAM};
    struct addrinfo *found = NULL;
    const char *port = NULL;
    char host[256];
    int err = address_split(address, host, sizeof(host), &port);

    if (err < 0)
        return err;
    if (getaddrinfo(*host ? host : NULL, port, &hints, &found) != 0)
        return -EINVAL;
    err = listen_on(found, &admin->listener);
    freeaddrinfo(found);
    if (err == 0)
        admin->port = socket_port(admin->listener);
    return err;
}

static int context_open(struct admin *admin)
{
    struct lws_context_creation_info info = {
        .port = CONTEXT_PORT_NO_LISTEN_SERVER,
        .protocols = PROTOCOLS,
        .gid = -1,
        .uid = -1,
        .user = admin,
        .vhost_name = "admin",
        .fd_limit_per_thread = CONNECTIONS_MAX,
        .max_http_header_pool = CONNECTIONS_MAX,
        .timeout_secs = REQUEST_TIMEOUT_S,
        .keepalive_timeout = KEEPALIVE_S,
        .options = LWS_SERVER_OPTION_EXPLICIT_VHOSTS,
    };
    lws_sock_file_fd_type listener = {.filefd = admin->listener};

    lws_set_log_level(0, NULL); /* what matters is logged here */
    admin->context = lws_create_context(&info);
    if (!admin->context)
        return -ENOMEM;
    admin->vhost = lws_create_vhost(admin->context, &info);
    if (!admin->vhost || !lws_adopt_descriptor_vhost(admin->vhost, LWS_ADOPT_RAW_FILE_DESC,
                                                     listener, "listener", NULL))
        return -ENOMEM;
    return 0;
}

static void *serve(void *arg)
{
    struct admin *admin = arg;

    pthread_setname_np(pthread_self(), "admin");
    while (!atomic_load(&admin->stopping))
        if (lws_service(admin->context, 0) < 0)
            break;
    return NULL;
}

/* Every signal is another thread's: a peer that hangs up must not raise SIGPIPE here. */
static int thread_start(struct admin *admin)
{
    sigset_t all;
    sigset_t before;
    int err;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    err = pthread_create(&admin->thread, NULL, serve, admin);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    admin->started = err == 0;
    return -err;
}

int admin_start(const char *address, struct admin **out)
{
    struct admin *admin = calloc(1, sizeof(*admin));
    int err = -ENOMEM;

    if (!admin)
        return err;
    admin->listener = -1;
    err = listener_open(address, admin);
    if (err == 0)
        err = context_open(admin);
    if (err == 0)
        err = thread_start(admin);
    if (err == 0) {
        log_info("admin: /metrics, /healthz and /readyz on port %d", admin->port);
        *out = admin;
        admin = NULL; /* the caller's now */
    }
    admin_stop(&admin);
    return err;
}

void admin_stop(struct admin **admin)
{
    struct admin *self = *admin;

    if (!self)
        return;
    *admin = NULL;
    if (self->started) {
        atomic_store(&self->stopping, true);
        lws_cancel_service(self->context);
        pthread_join(self->thread, NULL);
    }
    if (self->context)
        lws_context_destroy(self->context); /* closes what it adopted, the listener too */
    else if (self->listener >= 0)
        close(self->listener);
    free(self);
}

int admin_port(const struct admin *admin)
{
    return admin->port;
}
