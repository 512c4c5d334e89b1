#include "base/probe.h"

#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#define TIMEOUT_S 2
#define ANSWER_MAX 4096

/* A connected socket with time limits; -1 with errno when there is none. */
static int connect_to(const char *host, const char *port)
{
    const struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    const struct timeval limit = {.tv_sec = TIMEOUT_S};
    struct addrinfo *infos = NULL;
    int fd = -1;

    if (getaddrinfo(host, port, &hints, &infos) != 0) {
        errno = EADDRNOTAVAIL;
        return -1;
    }
    for (const struct addrinfo *info = infos; info && fd < 0; info = info->ai_next) {
        fd = socket(info->ai_family, info->ai_socktype | SOCK_CLOEXEC, info->ai_protocol);
        if (fd < 0)
            continue;
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)); /* connect() minds it too */
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
        if (connect(fd, info->ai_addr, info->ai_addrlen) < 0) {
            close(fd);
            fd = -1;
        }
    }
    freeaddrinfo(infos);
    return fd;
}

static size_t receive_all(int fd, char *answer, size_t size)
{
    size_t n = 0;
    ssize_t got;

    while (n + 1 < size && (got = recv(fd, answer + n, size - n - 1, 0)) > 0)
        n += (size_t)got;
    answer[n] = '\0';
    return n;
}

int probe_ready(const char *address)
{
    static const char REQUEST[] =
        "GET /readyz HTTP/1.0\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    char host[256], answer[ANSWER_MAX];
    const char *colon = strrchr(address, ':');
    const char *body;
    int fd;

    if (!colon || (size_t)(colon - address) >= sizeof(host)) {
        fprintf(stderr, "error: cannot probe '%s': not host:port\n", address);
        return 1;
    }
    snprintf(host, sizeof(host), "%.*s", (int)(colon - address), address);
    fd = connect_to(host, colon + 1);
    if (fd < 0) {
        fprintf(stderr, "error: cannot probe '%s': %s\n", address, strerror(errno));
        return 1;
    }
    if (send(fd, REQUEST, sizeof(REQUEST) - 1, MSG_NOSIGNAL) < 0)
        answer[0] = '\0';
    else
        receive_all(fd, answer, sizeof(answer));
    close(fd);
    body = strstr(answer, "\r\n\r\n");
    printf("%s", body ? body + 4 : "no answer\n");
    return strncmp(answer, "HTTP/1.", 7) == 0 && strncmp(answer + 8, " 200", 4) == 0 ? 0 : 1;
}
