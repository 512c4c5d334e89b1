/*
 * access.h - whom the broker lets in: its key, and folders of certificates that are read again while it runs
 *
 * The broker's own key is not read again: everyone who connects knows its public half, so a new one is a new
 * broker.
 */
#ifndef BROKER_ACCESS_H
#define BROKER_ACCESS_H

#include "broker/core.h"
#include "mesh/security.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

/* What a process with a broker can be told. */
struct access_flags {
    const char *key, *callers, *workers;
    bool plain;
};

/* Rows for its table: a broker of workers elsewhere takes both. */
#define ACCESS_CALLER_OPTIONS(flags)                                                               \
    {"key",                                                                                        \
     CONFIG_STRING,                                                                                \
     &(flags).key,                                                                                 \
     "FILE",                                                                                       \
     "speak CURVE with this key pair; see 'dragoman keys'",                                        \
     NULL,                                                                                         \
     0,                                                                                            \
     0},                                                                                           \
        {"callers",                                                                                \
         CONFIG_STRING,                                                                            \
         &(flags).callers,                                                                         \
         "DIR",                                                                                    \
         "certificates of those who may call",                                                     \
         NULL,                                                                                     \
         0,                                                                                        \
         0},                                                                                       \
    {                                                                                              \
        "plain", CONFIG_BOOL, &(flags).plain, NULL,                                                \
            "let anyone in, unencrypted, where other machines can connect", NULL, 0, 0             \
    }
#define ACCESS_WORKER_OPTIONS(flags)                                                               \
    {                                                                                              \
        "workers", CONFIG_STRING, &(flags).workers, "DIR", "certificates of those who may answer", \
            NULL, 0, 0                                                                             \
    }

/**
 * Read what the flags name.
 *
 * @param with_workers  whether workers connect, and their folder is needed
 * @param out           filled when --key is set; mesh_security_wipe() in the end
 * @return 1: filled; 0: no flag is set, no CURVE; -EINVAL: logged what is wrong and the remedy, exit 2
 */
int access_load(const struct access_flags *flags, bool with_workers, struct mesh_security *out);

/** Whether the broker may listen there: other machines come by key, unless --plain says otherwise.
 *  @return 0; -EINVAL: logged with the remedy, exit 2 */
int access_allows(const struct access_flags *flags, const char *endpoint);

/* What a reload took away and the broker's thread has not heard of yet. */
struct access {
    const struct mesh_security *security; /* borrowed; NULL: no CURVE */
    pthread_mutex_t lock;
    uint16_t *gone[2]; /* (n_gone) by enum broker_side */
    size_t n_gone[2];
    atomic_bool news;
};

void access_init(struct access *access, const struct mesh_security *security);
void access_fini(struct access *access);

/** Read both folders again, on any thread but the broker's. Each one that has a mistake stays as it was, and is named
 *  in the log. @return 0; -errno of the last mistake */
int access_reload(struct access *access);
/** On the broker's thread: numbers that are no longer good, to be freed. @return how many */
size_t access_take(struct access *access, enum broker_side side, uint16_t **gone);

#endif
