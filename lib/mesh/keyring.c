#include "mesh/keyring.h"

#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zmq.h>

#define SUFFIX ".cert"
#define FOLDER_MAX 4096

struct key_entry {
    uint8_t key[MESH_KEY_BYTES];
    struct mesh_identity identity;
};

/* What one look at the folder gave. */
struct key_set {
    struct key_entry *entries; /* (count) in the order of their keys */
    size_t count, room;
};

struct mesh_keyring {
    char *folder;
    pthread_mutex_t lock;
    struct key_set keys;
    size_t *by_number; /* (next_number) place in keys + 1; 0: not good any more */
    uint32_t next_number;
    _Atomic uint64_t version;
};

static int compare(const void *a, const void *b)
{
    return memcmp(((const struct key_entry *)a)->key, ((const struct key_entry *)b)->key,
                  MESH_KEY_BYTES);
}

static struct key_entry *find(const struct key_set *keys, const uint8_t key[MESH_KEY_BYTES])
{
    struct key_entry wanted;

    if (keys->count == 0)
        return NULL;
    memcpy(wanted.key, key, sizeof(wanted.key));
    return bsearch(&wanted, keys->entries, keys->count, sizeof(wanted), compare);
}

/* ---- reading a folder ------------------------------------------------------------------------ */

static int add(struct key_set *keys, const struct mesh_certificate *certificate)
{
    struct key_entry *entry;

    if (keys->count == keys->room) {
        size_t room = keys->room ? 2 * keys->room : 16;

        entry = realloc(keys->entries, room * sizeof(*entry));
        if (!entry)
            return -ENOMEM;
        keys->entries = entry;
        keys->room = room;
    }
    entry = &keys->entries[keys->count++];
    *entry = (struct key_entry){0};
    zmq_z85_decode(entry->key, certificate->public_key); /* it was checked */
    memcpy(entry->identity.name, certificate->name, sizeof(entry->identity.name));
    memcpy(entry->identity.services, certificate->services, sizeof(entry->identity.services));
    return 0;
}

/* Names that begin with a dot are not ours: mounted secrets come with such. */
static int is_certificate(const struct dirent *file)
{
    const char *dot = strrchr(file->d_name, '.');

    return file->d_name[0] != '.' && dot && strcmp(dot, SUFFIX) == 0;
}

static int read_one(const char *folder, const char *name, struct key_set *keys,
                    char why[MESH_WHY_MAX])
{
    struct mesh_certificate certificate;
    char path[FOLDER_MAX];
    int err;

    if (snprintf(path, sizeof(path), "%s/%s", folder, name) >= (int)sizeof(path)) {
        snprintf(why, MESH_WHY_MAX, "the path of '%.200s' is too long", name);
        return -ENAMETOOLONG;
    }
    err = mesh_certificate_load(path, false, &certificate, why);
    if (err == 0 && keys->count == MESH_KEYRING_MAX) {
        snprintf(why, MESH_WHY_MAX, "more than %d certificates in '%.300s'", MESH_KEYRING_MAX,
                 folder);
        err = -ENOSPC;
    } else if (err == 0 && (err = add(keys, &certificate)) < 0) {
        snprintf(why, MESH_WHY_MAX, "no memory for the certificates in '%.300s'", folder);
    }
    return err;
}

static int check_twins(const char *folder, const struct key_set *keys, char why[MESH_WHY_MAX])
{
    for (size_t i = 1; i < keys->count; i++) {
        if (compare(&keys->entries[i - 1], &keys->entries[i]) == 0) {
            snprintf(why, MESH_WHY_MAX, "two certificates in '%.200s' have one key: '%s' and '%s'",
                     folder, keys->entries[i - 1].identity.name, keys->entries[i].identity.name);
            return -EINVAL;
        }
    }
    return 0;
}

static int read_folder(const char *folder, struct key_set *keys, char why[MESH_WHY_MAX])
{
    struct dirent **files = NULL;
    int n = scandir(folder, &files, is_certificate, alphasort);
    int err = n < 0 ? -errno : 0;

    if (err < 0)
        snprintf(why, MESH_WHY_MAX, "cannot read the folder '%.300s': %s", folder, strerror(-err));
    for (int i = 0; i < n; i++) {
        if (err == 0)
            err = read_one(folder, files[i]->d_name, keys, why);
        free(files[i]);
    }
    free(files);
    if (err == 0 && keys->count > 0) {
        qsort(keys->entries, keys->count, sizeof(*keys->entries), compare);
        err = check_twins(folder, keys, why);
    }
    return err;
}

/* ---- numbers --------------------------------------------------------------------------------- */

static bool same(const struct mesh_identity *a, const struct mesh_identity *b)
{
    return strcmp(a->name, b->name) == 0 && strcmp(a->services, b->services) == 0;
}

/* Old numbers for what has not changed, new ones for the rest. @return the next number */
static uint32_t give_numbers(const struct mesh_keyring *keyring, struct key_set *keys)
{
    uint32_t next = keyring->next_number;

    for (size_t i = 0; i < keys->count; i++) {
        struct mesh_identity *identity = &keys->entries[i].identity;
        const struct key_entry *before = find(&keyring->keys, keys->entries[i].key);

        identity->number = before && same(&before->identity, identity) ? before->identity.number
                                                                       : (uint16_t)next++;
        if (next > MESH_KEYRING_MAX + 1)
            break;
    }
    return next;
}

static void index_numbers(struct mesh_keyring *keyring)
{
    memset(keyring->by_number, 0, keyring->next_number * sizeof(*keyring->by_number));
    for (size_t i = 0; i < keyring->keys.count; i++)
        keyring->by_number[keyring->keys.entries[i].identity.number] = i + 1;
}

/* Numbers of the keyring that `keys` does not have. */
static size_t list_gone(const struct mesh_keyring *keyring, const struct key_set *keys,
                        uint16_t *gone)
{
    size_t n = 0;

    for (size_t i = 0; i < keyring->keys.count; i++) {
        const struct key_entry *entry = &keyring->keys.entries[i];
        const struct key_entry *now = find(keys, entry->key);

        if (!now || now->identity.number != entry->identity.number)
            gone[n++] = entry->identity.number;
    }
    return n;
}

int mesh_keyring_reload(struct mesh_keyring *keyring, uint16_t **gone, size_t *n_gone,
                        char why[MESH_WHY_MAX])
{
    struct key_set keys = {0};
    uint16_t *left = NULL;
    size_t *by_number = NULL;
    size_t n_left = 0;
    uint32_t next;
    int err = read_folder(keyring->folder, &keys, why);

    if (err < 0)
        goto done;
    pthread_mutex_lock(&keyring->lock);
    next = give_numbers(keyring, &keys);
    left = malloc((keyring->keys.count + 1) * sizeof(*left));
    by_number = next <= MESH_KEYRING_MAX + 1
                    ? realloc(keyring->by_number, next * sizeof(*by_number))
                    : NULL;
    if (by_number)
        keyring->by_number = by_number;
    if (left && by_number) {
        struct key_set before = keyring->keys;

        n_left = list_gone(keyring, &keys, left);
        keyring->keys = keys;
        keyring->next_number = next;
        index_numbers(keyring);
        keys = before;
        if (n_left > 0)
            atomic_fetch_add(&keyring->version, 1);
    } else {
        err = next > MESH_KEYRING_MAX + 1 ? -ENOSPC : -ENOMEM;
        snprintf(why, MESH_WHY_MAX, "%s the certificates in '%.300s': restart this process",
                 err == -ENOSPC ? "no numbers are left for" : "no memory for", keyring->folder);
    }
    pthread_mutex_unlock(&keyring->lock);
done:
    free(keys.entries);
    if (err < 0 || n_left == 0) {
        free(left);
        left = NULL;
    }
    if (err == 0) {
        *gone = left;
        *n_gone = n_left;
    }
    return err;
}

/* ---- asking ---------------------------------------------------------------------------------- */

uint16_t mesh_keyring_number(struct mesh_keyring *keyring, const uint8_t key[MESH_KEY_BYTES])
{
    const struct key_entry *entry;
    uint16_t number = 0;

    pthread_mutex_lock(&keyring->lock);
    entry = find(&keyring->keys, key);
    if (entry)
        number = entry->identity.number;
    pthread_mutex_unlock(&keyring->lock);
    return number;
}

bool mesh_keyring_identity(struct mesh_keyring *keyring, uint16_t number, struct mesh_identity *out)
{
    size_t place = 0;

    pthread_mutex_lock(&keyring->lock);
    if (number < keyring->next_number)
        place = keyring->by_number[number];
    if (place > 0)
        *out = keyring->keys.entries[place - 1].identity;
    pthread_mutex_unlock(&keyring->lock);
    return place > 0;
}

uint64_t mesh_keyring_version(const struct mesh_keyring *keyring)
{
    return atomic_load_explicit(&keyring->version, memory_order_relaxed);
}

size_t mesh_keyring_count(struct mesh_keyring *keyring)
{
    size_t count;

    pthread_mutex_lock(&keyring->lock);
    count = keyring->keys.count;
    pthread_mutex_unlock(&keyring->lock);
    return count;
}

const char *mesh_keyring_folder(const struct mesh_keyring *keyring)
{
    return keyring->folder;
}

int mesh_keyring_create(const char *folder, struct mesh_keyring **out, char why[MESH_WHY_MAX])
{
    struct mesh_keyring *keyring = calloc(1, sizeof(*keyring));
    uint16_t *gone = NULL;
    size_t n_gone = 0;
    int err = -ENOMEM;

    if (!keyring)
        return err;
    pthread_mutex_init(&keyring->lock, NULL);
    keyring->next_number = 1;
    keyring->folder = strdup(folder);
    keyring->by_number = calloc(1, sizeof(*keyring->by_number));
    if (keyring->folder && keyring->by_number)
        err = mesh_keyring_reload(keyring, &gone, &n_gone, why);
    else
        snprintf(why, MESH_WHY_MAX, "no memory for the certificates in '%.300s'", folder);
    free(gone);
    if (err < 0) {
        mesh_keyring_destroy(&keyring);
        return err;
    }
    *out = keyring;
    return 0;
}

void mesh_keyring_destroy(struct mesh_keyring **keyring)
{
    struct mesh_keyring *self = *keyring;

    if (!self)
        return;
    *keyring = NULL;
    pthread_mutex_destroy(&self->lock);
    free(self->keys.entries);
    free(self->by_number);
    free(self->folder);
    free(self);
}
