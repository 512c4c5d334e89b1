/*
 * fetch.h - HTTP downloads that go on where they were cut off, and are checked before they count
 *
 * Proxies come from the environment as curl takes them; the certificates' file from CURL_CA_BUNDLE,
 * SSL_CERT_FILE or PIP_CERT, else the system's. One struct fetch keeps its connections open and is
 * for one thread.
 */
#ifndef MODELS_FETCH_H
#define MODELS_FETCH_H

#include "models/failure.h"

#include <stddef.h>
#include <stdint.h>

struct fetch;

/** @return 0; -ENOMEM */
int fetch_create(struct fetch **out);
void fetch_destroy(struct fetch **fetch);

struct fetch_page {
    char *body; /* NUL-terminated past its size */
    size_t size;
    char *content_type; /* "" when the server names none */
    char *url;          /* where redirections led: what its links are relative to */
};

/**
 * Fetch a page into memory.
 *
 * @param accept  the Accept header's value
 * @param limit   bytes; more is refused
 * @return 0, then fetch_page_fini(); -ENOENT (404), -EACCES (401, 403), -EHOSTUNREACH, -EMSGSIZE,
 *         -EPROTO for another HTTP status
 */
int fetch_page(struct fetch *fetch, const char *url, const char *accept, size_t limit,
               struct fetch_page *out, struct failure *failure);
void fetch_page_fini(struct fetch_page *page);

struct fetch_file {
    const char *url;
    const char *path;   /* the bytes gather in PATH.part, and become PATH when they are right */
    uint64_t size;      /* 0: not known */
    const char *sha256; /* NULL: not known */
    void (*progress)(void *arg, uint64_t done, uint64_t total); /* total 0: not known */
    void *arg;
};

/**
 * Fetch a file. Goes on from PATH.part when there is one, and tries again by itself when a
 * connection breaks.
 *
 * @return 0; -EBADMSG when the bytes are not those of `sha256` (PATH.part is gone then), -ENOSPC,
 *         or as fetch_page()
 */
int fetch_file(struct fetch *fetch, const struct fetch_file *want, struct failure *failure);

/** A URL fit to be shown: without user name and password. Cut at size. */
void fetch_url_for_people(const char *url, char *out, size_t size);

#endif
