#include "base/probe.h"

#include "base/http_client.h"

#include <stdio.h>
#include <string.h>

#define TIMEOUT_MS 2000
#define ANSWER_MAX 4096

int probe_ready(const char *address)
{
    static const char REQUEST[] =
        "GET /readyz HTTP/1.0\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    char url[HTTP_HOST_MAX + 32], host[HTTP_HOST_MAX], port[HTTP_PORT_MAX];
    const char *path, *body;
    struct buffer answer;
    int status;

    snprintf(url, sizeof(url), "http://%s", address);
    if (!strrchr(address, ':') || http_url_split(url, host, port, &path) < 0 || *path) {
        fprintf(stderr, "error: cannot probe '%s': not host:port\n", address);
        return 1;
    }
    buffer_init(&answer, ANSWER_MAX);
    status = http_exchange(host, port, REQUEST, sizeof(REQUEST) - 1, TIMEOUT_MS, &answer);
    if (status < 0)
        fprintf(stderr, "error: cannot probe '%s': %s\n", address, strerror(-status));
    body = answer.data ? strstr((const char *)answer.data, "\r\n\r\n") : NULL;
    if (status >= 0)
        printf("%s", body ? body + 4 : "no answer\n");
    buffer_fini(&answer);
    return status == 200 ? 0 : 1;
}
