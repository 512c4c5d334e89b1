/*
 * lease.h - how a worker shares its capacity among its brokers (docs/wire.md, "Several brokers")
 *
 * Pure arithmetic, no sockets: events go in, shares to be told come out. What holds at every moment: the
 * sum of what all brokers may make use of, and of calls that outlived their session, is at most the capacity.
 */
#ifndef MESH_LEASE_H
#define MESH_LEASE_H

#include "mesh/endpoints.h"

#include <stdbool.h>
#include <stdint.h>

#define LEASE_TICK_NS INT64_C(1000000000) /* how often brokers are asked for their demand */

struct lease_share {
    bool up;          /* a session stands */
    bool going;       /* but its broker wants no more calls */
    uint32_t told;    /* the share it was told last */
    uint32_t before;  /* a greater one that it may still go by; 0: none */
    uint64_t token;   /* of the PING behind the CAPACITY that lowered */
    uint32_t running; /* calls of its own */
    uint32_t demand;  /* calls that wait there, as it said last */
    uint32_t target;  /* what it is to have as soon as that fits */
    bool tell;        /* `told` has changed: to be sent */
    bool confirm;     /* and was lowered: with a PING behind it */
};

struct lease {
    uint32_t capacity;
    uint32_t lost; /* calls that run for sessions that are gone */
    size_t n;
    size_t turn;                                   /* who gets an odd slot */
    bool pending;                                  /* a share is under its target */
    struct lease_share shares[MESH_ENDPOINTS_MAX]; /* (n) */
};

void lease_init(struct lease *lease, uint32_t capacity, size_t n);

/** A session begins. @return the share for its REGISTER, which counts as told */
uint32_t lease_up(struct lease *lease, size_t i);
/** It is over; its calls are to be counted as lost from now on. */
void lease_down(struct lease *lease, size_t i);
/** GOAWAY: no new calls from there. */
void lease_going(struct lease *lease, size_t i);
/** How many of its calls run. */
void lease_running(struct lease *lease, size_t i, uint32_t running);
/** PONG, and how many calls wait there. @return whether its share does not do: to be planned anew */
bool lease_pong(struct lease *lease, size_t i, uint64_t token, uint32_t demand);

/** Think again who should have what. Lowers at once; what can be raised now is. */
void lease_plan(struct lease *lease);
/** Raise what fits by now. */
void lease_settle(struct lease *lease);

/** Next share to tell: send CAPACITY; with *confirm a PING behind it, its token to lease_asked(). @return false: none */
bool lease_next(struct lease *lease, size_t *i, uint32_t *share, bool *confirm);
void lease_asked(struct lease *lease, size_t i, uint64_t token);

#endif
