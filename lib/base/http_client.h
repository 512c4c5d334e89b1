/*
 * http_client.h - one request of HTTP/1.1 to a server that is ours or near: health checks, collectors
 *
 * Plain http:// only, a connection a request, every step within one time limit.
 */
#ifndef BASE_HTTP_CLIENT_H
#define BASE_HTTP_CLIENT_H

#include "base/buffer.h"

#define HTTP_HOST_MAX 256
#define HTTP_PORT_MAX 8

/** "http://host:port/path", "[v6]:port"; the port is 80 when there is none.
 *  @param path  what follows host and port, borrowed from url; "" at least
 *  @return 0; -EINVAL; -EPROTONOSUPPORT for https:// */
int http_url_split(const char *url, char host[HTTP_HOST_MAX], char port[HTTP_PORT_MAX],
                   const char **path);

/**
 * Send a request, head and body, and read the answer until its end, the connection's or the buffer's limit.
 *
 * @param answer  the whole of it, appended: head and body
 * @return its status; -errno: -ETIMEDOUT, -EBADMSG for no HTTP, what connect() says
 */
int http_exchange(const char *host, const char *port, const void *request, size_t size,
                  int timeout_ms, struct buffer *answer);

#endif
