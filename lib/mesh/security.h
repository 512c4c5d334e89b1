/*
 * security.h - CURVE on a socket: one's own key pair, whom to trust, whom to let in
 *
 * A channel, server or broker that is given a struct mesh_security speaks CURVE on every tcp:// and
 * ipc:// connection and nothing else; inproc:// stays within the process and is not encrypted.
 */
#ifndef MESH_SECURITY_H
#define MESH_SECURITY_H

#include "base/config.h"
#include "mesh/message.h"
#include "mesh/zap.h"

struct mesh_security {
    struct mesh_certificate own;    /* with the secret key */
    struct mesh_certificate broker; /* for who connects: the public half of who binds there */
    struct mesh_keyring *callers;   /* for who binds: who may call; borrowed */
    struct mesh_keyring *workers;   /* for a broker: who may answer; borrowed */
};

/* ---- sockets --------------------------------------------------------------------------------- */

/** Before zmq_connect(). NULL is fine: no CURVE. @return 0; -EINVAL: not a key */
int mesh_security_connect(const struct mesh_security *security, void *socket);

/**
 * Before zmq_bind(). NULL is fine: no CURVE, and *zap is untouched.
 *
 * @param domain   "mesh.client" or "mesh.worker"
 * @param keyring  who may connect; borrowed until the socket is closed and *zap left
 * @return 0; -EINVAL: not a key, or no keyring; as mesh_zap_join()
 */
int mesh_security_bind(const struct mesh_security *security, void *context, void *socket,
                       const char *domain, struct mesh_keyring *keyring, struct mesh_zap **zap);

/**
 * The number that the keyring gave the sender of a message, which a socket with CURVE has received.
 *
 * @param number  0 for who connected over inproc://, which knows no handshake
 * @return false: the message came from outside without having passed ZAP
 */
bool mesh_security_sender(struct mesh_message *message, uint16_t *number);

/* ---- flags ----------------------------------------------------------------------------------- */

/* What every process that connects can be told. */
struct mesh_key_flags {
    const char *key, *broker_key;
};

/* Rows for its table. */
#define MESH_KEY_OPTIONS(flags)                                                                    \
    {"key",                                                                                        \
     CONFIG_STRING,                                                                                \
     &(flags).key,                                                                                 \
     "FILE",                                                                                       \
     "speak CURVE with this key pair; see 'dragoman keys'",                                        \
     NULL,                                                                                         \
     0,                                                                                            \
     0},                                                                                           \
    {                                                                                              \
        "broker-key", CONFIG_STRING, &(flags).broker_key, "FILE", "the broker's certificate",      \
            NULL, 0, 0                                                                             \
    }

/**
 * Read what the flags name.
 *
 * @param out  filled when both are set; mesh_security_wipe() in the end
 * @return 1: filled; 0: neither flag is set, no CURVE; -EINVAL: logged what is wrong and the remedy, exit 2
 */
int mesh_security_load(const struct mesh_key_flags *flags, struct mesh_security *out);

/** Overwrite the secret, destroy the keyrings. */
void mesh_security_wipe(struct mesh_security *security);

#endif
