/*
 * proxy.h - a TCP proxy that makes a connection bad: late, in slices, silent, cut
 *
 * One thread of its own. What it is told holds for connections that stand and for those to come.
 */
#ifndef TESTS_MESH_PROXY_H
#define TESTS_MESH_PROXY_H

#include <stdbool.h>
#include <stdint.h>

struct proxy;

enum proxy_mode {
    PROXY_PASS,
    PROXY_HOLE,   /* takes nothing, passes nothing on, closes nothing: as a cable that was pulled */
    PROXY_REFUSE, /* closes each new connection at once */
};

struct proxy_options {
    uint16_t listen; /* port on 127.0.0.1; 0: any */
    uint16_t target; /* port on 127.0.0.1 to connect to */
    int delay_ms;    /* each byte comes so much later */
    bool
        slice; /* the first bytes of what was read at once leave one by one, the rest in slices of random size */
};

/** @return 0; -errno */
int proxy_start(const struct proxy_options *options, struct proxy **out);
uint16_t proxy_port(const struct proxy *proxy);
void proxy_set(struct proxy *proxy, enum proxy_mode mode);
/** Reset every connection that stands. */
void proxy_cut(struct proxy *proxy);
/** Connections that stand at this moment, and that were ever made. */
int proxy_connections(const struct proxy *proxy);
int proxy_accepted(const struct proxy *proxy);
void proxy_stop(struct proxy **proxy);

#endif
