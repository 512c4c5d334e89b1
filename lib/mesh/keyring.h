/*
 * keyring.h - who may connect: a folder of public certificates, each with a number
 *
 * A number stands for one certificate as it was read: its key, name and services. It stays as long as
 * those do, through every reload, and is never given again. Any thread may ask; libzmq tells the number
 * with each message of a peer that it has let in ("User-Id").
 */
#ifndef MESH_KEYRING_H
#define MESH_KEYRING_H

#include "mesh/certificate.h"

#define MESH_KEYRING_MAX                                                                           \
    65535 /* certificates over a keyring's life: numbers have 16 bits on the wire */

struct mesh_keyring;

struct mesh_identity {
    uint16_t number; /* from 1; 0: nobody in particular */
    char name[MESH_IDENTITY_NAME_MAX];
    char services[MESH_SERVICES_MAX]; /* as in a certificate */
};

/**
 * Read all files of a folder that end in ".cert". There may be none yet.
 *
 * @param why  on error: one line for people that names the folder or the file
 * @return 0; -EINVAL: one is no certificate, or two have the same key; -ENOTDIR, ...; -ENOSPC; -ENOMEM
 */
int mesh_keyring_create(const char *folder, struct mesh_keyring **out, char why[MESH_WHY_MAX]);
/** Nobody may ask any more. */
void mesh_keyring_destroy(struct mesh_keyring **keyring);

/**
 * Read the folder again. On error all stays as it was.
 *
 * @param gone  the numbers that are no longer good, the caller's to free(); NULL: none
 * @return as mesh_keyring_create()
 */
int mesh_keyring_reload(struct mesh_keyring *keyring, uint16_t **gone, size_t *n_gone,
                        char why[MESH_WHY_MAX]);

/** Changes with each reload that took something away: time to ask again who is still good. */
uint64_t mesh_keyring_version(const struct mesh_keyring *keyring);

size_t mesh_keyring_count(struct mesh_keyring *keyring);
const char *mesh_keyring_folder(const struct mesh_keyring *keyring);

/** The number of a key, as ZAP brings it. @return 0: not let in */
uint16_t mesh_keyring_number(struct mesh_keyring *keyring, const uint8_t key[MESH_KEY_BYTES]);
/** Who that is. @return false: the number is not good, or no longer */
bool mesh_keyring_identity(struct mesh_keyring *keyring, uint16_t number,
                           struct mesh_identity *out);

#endif
