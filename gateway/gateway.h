/*
 * gateway.h - HTTP in front of the mesh: speech, text and models for people and programs
 *
 * One thread runs the HTTP event loop; a bounded pool of request threads runs what calls the mesh.
 * docs/api.md describes what it serves. It runs in a process of its own (gateway/main.c) or inside
 * another, on the same ZeroMQ context as the broker.
 */
#ifndef GATEWAY_GATEWAY_H
#define GATEWAY_GATEWAY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct gateway;
struct mesh_security;

struct gateway_options {
    const char *listen; /* "127.0.0.1:8080", "0.0.0.0:8080", "[::1]:8080"; port 0 picks one */
    const char *broker; /* the broker's caller side: "tcp://127.0.0.1:5601", "inproc://front" */
    void *context; /* a ZeroMQ context to share (inproc:// needs the broker's); NULL: its own */
    const struct mesh_security
        *security;               /* towards the broker; borrowed until stop; NULL: no CURVE */
    const char *const *api_keys; /* ended by NULL; NULL or empty: nobody is asked for one */
    const char *cors_origin;     /* who may call from a web page; NULL: "*"; "": nobody */
    size_t max_upload_bytes;     /* one recording; 0: 100 MiB */
    size_t max_buffered_bytes;   /* bodies of all requests together; 0: 512 MiB */
    size_t max_text_bytes;       /* text of one request; 0: 1 MiB */
    uint32_t max_audio_s;        /* longest recording, decoded; 0: 4 hours */
    uint32_t request_threads;    /* requests that call the mesh at once; 0: 64 */
    uint32_t queue_limit;        /* requests that wait for one of them; 0: 128; past it: 429 */
    uint32_t max_connections;    /* open at once; 0: 1024 */
    int64_t request_timeout_ms;  /* the deadline of one request; 0: 30 minutes */
    int64_t idle_timeout_ms;     /* a client that sends or takes nothing for so long; 0: 60 s */
};

/**
 * Listen and serve. The broker need not be there yet: /readyz says what is missing.
 *
 * @return 0; -EINVAL for a bad listen address or endpoint; -EADDRINUSE; -EADDRNOTAVAIL; -ENOMEM
 */
int gateway_start(const struct gateway_options *options, struct gateway **out);

/** The port it listens on. */
int gateway_port(const struct gateway *gateway);
/** Whether every stage of the chain has a worker: what /readyz answers. */
bool gateway_ready(const struct gateway *gateway);
/** How many workers it knows of: news of one that has registered come a moment later. */
size_t gateway_workers(const struct gateway *gateway);

/** Take no new requests, wait for running ones at most grace_ms, cancel the rest, stop. */
void gateway_stop(struct gateway **gateway, int64_t grace_ms);

#endif
