#include "base/http_client.h"

#include "base/clock.h"

#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int http_url_split(const char *url, char host[HTTP_HOST_MAX], char port[HTTP_PORT_MAX],
                   const char **path)
{
    static const char SCHEME[] = "http://";
    const char *at = url + sizeof(SCHEME) - 1;
    const char *end, *colon;
    size_t n;

    if (strncmp(url, "https://", 8) == 0)
        return -EPROTONOSUPPORT;
    if (strncmp(url, SCHEME, sizeof(SCHEME) - 1) != 0)
        return -EINVAL;
    end = at + strcspn(at, "/?#");
    colon = *at == '[' ? memchr(at, ']', (size_t)(end - at)) : NULL;
    if (*at == '[' && !colon)
        return -EINVAL;
    colon = memchr(colon ? colon : at, ':', (size_t)(end - (colon ? colon : at)));
    n = (size_t)((colon ? colon : end) - at);
    if (*at == '[') {
        at++;
        n -= 2;
    }
    if (n == 0 || n >= HTTP_HOST_MAX || strcspn(at, " \t\r\n@") < n)
        return -EINVAL;
    if (colon && ((size_t)(end - colon - 1) >= HTTP_PORT_MAX || end == colon + 1 ||
                  strspn(colon + 1, "0123456789") != (size_t)(end - colon - 1)))
        return -EINVAL;
    snprintf(host, HTTP_HOST_MAX, "%.*s", (int)n, at);
    snprintf(port, HTTP_PORT_MAX, "%.*s", colon ? (int)(end - colon - 1) : 2,
             colon ? colon + 1 : "80");
    *path = end;
    return 0;
}

/* @return 0; -ETIMEDOUT */
static int wait_for(int fd, short events, int64_t end_ms)
{
    struct pollfd poller = {.fd = fd, .events = events};
    int64_t left = end_ms - clock_now_ms();
    int n = left > 0 ? poll(&poller, 1, (int)left) : 0;

    return n > 0 ? 0 : n == 0 ? -ETIMEDOUT : -errno;
}

static int connect_to(const struct addrinfo *info, int64_t end_ms, int *out)
{
    int fd = socket(info->ai_family, info->ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK,
                    info->ai_protocol);
    socklen_t size = sizeof(int);
    int err = fd < 0 ? -errno : 0;
    int problem = 0;

    if (err == 0 && connect(fd, info->ai_addr, info->ai_addrlen) < 0)
        err = errno == EINPROGRESS ? wait_for(fd, POLLOUT, end_ms) : -errno;
    if (err == 0 && getsockopt(fd, SOL_SOCKET, SO_ERROR, &problem, &size) == 0)
        err = -problem;
    if (err == 0)
        *out = fd;
    else if (fd >= 0)
        close(fd);
    return err;
}

static int send_all(int fd, const char *data, size_t size, int64_t end_ms)
{
    int err = 0;

    while (size > 0 && err == 0) {
        ssize_t n = send(fd, data, size, MSG_NOSIGNAL);

        if (n >= 0) {
            data += n;
            size -= (size_t)n;
        } else {
            err = errno == EAGAIN ? wait_for(fd, POLLOUT, end_ms) : -errno;
        }
    }
    return err;
}

/* Whether head and, if it has a length, body are there. */
static bool is_whole(const struct buffer *answer)
{
    const char *text = (const char *)answer->data;
    const char *end = text ? strstr(text, "\r\n\r\n") : NULL;
    const char *length = end ? strcasestr(text, "\r\ncontent-length:") : NULL;

    if (!length || length >= end)
        return false;
    return answer->size - (size_t)(end + 4 - text) >= (size_t)strtoull(length + 17, NULL, 10);
}

static int receive_all(int fd, int64_t end_ms, struct buffer *answer)
{
    char piece[4096];
    int err = 0;

    while (err == 0 && !is_whole(answer)) {
        ssize_t n = recv(fd, piece, sizeof(piece), 0);

        if (n == 0)
            return 0;
        if (n > 0)
            err = buffer_append(answer, piece, (size_t)n);
        else
            err = errno == EAGAIN ? wait_for(fd, POLLIN, end_ms) : -errno;
    }
    return err == -EMSGSIZE ? 0 : err; /* enough for a status */
}

static int status_of(const struct buffer *answer)
{
    int status = 0;

    if (answer->size == 0 || sscanf((const char *)answer->data, "HTTP/1.%*1d %3d", &status) != 1)
        return -EBADMSG;
    return status;
}

int http_exchange(const char *host, const char *port, const void *request, size_t size,
                  int timeout_ms, struct buffer *answer)
{
    const struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    int64_t end_ms = clock_now_ms() + timeout_ms;
    struct addrinfo *infos = NULL;
    int fd = -1;
    int err = -EADDRNOTAVAIL;

    if (getaddrinfo(host, port, &hints, &infos) != 0)
        return err;
    for (const struct addrinfo *info = infos; info && fd < 0; info = info->ai_next)
        err = connect_to(info, end_ms, &fd);
    freeaddrinfo(infos);
    if (fd < 0)
        return err;
    err = send_all(fd, request, size, end_ms);
    if (err == 0)
        err = receive_all(fd, end_ms, answer);
    close(fd);
    return err == 0 ? status_of(answer) : err;
}
