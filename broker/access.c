#include "broker/access.h"

#include "base/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { N_SIDES = 2 };

/* ---- flags ----------------------------------------------------------------------------------- */

static bool is_set(const char *flag)
{
    return flag && *flag;
}

static int open_folder(const char *flag, const char *folder, struct mesh_keyring **out)
{
    char why[MESH_WHY_MAX] = "";

    if (!is_set(folder)) {
        log_error("--key needs --%s: a folder of the certificates that may connect", flag);
        return -EINVAL;
    }
    if (mesh_keyring_create(folder, out, why) < 0) {
        log_error("--%s: %s", flag, why);
        return -EINVAL;
    }
    if (mesh_keyring_count(*out) == 0)
        log_warn("no certificate (*.cert) is in '%s' (--%s) yet: nobody is let in there", folder,
                 flag);
    return 0;
}

int access_load(const struct access_flags *flags, bool with_workers, struct mesh_security *out)
{
    struct mesh_security read = {0};
    char why[MESH_WHY_MAX] = "";
    int err = 0;

    if (!is_set(flags->key) && !is_set(flags->callers) && !is_set(flags->workers))
        return 0;
    if (!is_set(flags->key)) {
        log_error("--%s needs --key: the broker's own key pair",
                  is_set(flags->callers) ? "callers" : "workers");
        return -EINVAL;
    }
    if (mesh_certificate_load(flags->key, true, &read.own, why) < 0) {
        log_error("--key: %s", why);
        return -EINVAL;
    }
    err = open_folder("callers", flags->callers, &read.callers);
    if (err == 0 && with_workers)
        err = open_folder("workers", flags->workers, &read.workers);
    if (err < 0) {
        mesh_security_wipe(&read);
        return err;
    }
    *out = read;
    mesh_certificate_wipe(&read.own);
    return 1;
}

/* Where others than this machine may come by. */
static bool is_public(const char *endpoint)
{
    return strncmp(endpoint, "tcp://", 6) == 0 && strncmp(endpoint, "tcp://127.", 10) != 0 &&
           strncmp(endpoint, "tcp://localhost:", 16) != 0 &&
           strncmp(endpoint, "tcp://[::1]:", 12) != 0;
}

int access_allows(const struct access_flags *flags, const char *endpoint)
{
    if (is_set(flags->key) || flags->plain || !is_public(endpoint))
        return 0;
    log_error("cannot listen on %s without keys: whoever reaches it would be let in, unencrypted; "
              "set --key and --callers, or --plain to have it so",
              endpoint);
    return -EINVAL;
}

/* ---- reading again --------------------------------------------------------------------------- */

void access_init(struct access *access, const struct mesh_security *security)
{
    *access = (struct access){.security = security};
    pthread_mutex_init(&access->lock, NULL);
}

void access_fini(struct access *access)
{
    for (int side = 0; side < N_SIDES; side++)
        free(access->gone[side]);
    pthread_mutex_destroy(&access->lock);
}

/* Add to what the broker's thread has not heard of. @return 0; -ENOMEM */
static int tell(struct access *access, int side, const uint16_t *gone, size_t n)
{
    uint16_t *all;

    pthread_mutex_lock(&access->lock);
    all = realloc(access->gone[side], (access->n_gone[side] + n) * sizeof(*all));
    if (all) {
        memcpy(all + access->n_gone[side], gone, n * sizeof(*all));
        access->gone[side] = all;
        access->n_gone[side] += n;
        atomic_store(&access->news, true);
    }
    pthread_mutex_unlock(&access->lock);
    return all ? 0 : -ENOMEM;
}

static int reload_side(struct access *access, int side, struct mesh_keyring *keyring)
{
    char why[MESH_WHY_MAX] = "";
    uint16_t *gone = NULL;
    size_t n_gone = 0;
    int err;

    if (!keyring)
        return 0;
    err = mesh_keyring_reload(keyring, &gone, &n_gone, why);
    if (err < 0) {
        log_error("%s; the certificates read before stay in force", why);
        return err;
    }
    log_info("%zu certificates are in '%s', %zu that were are no longer",
             mesh_keyring_count(keyring), mesh_keyring_folder(keyring), n_gone);
    if (n_gone > 0)
        err = tell(access, side, gone, n_gone);
    free(gone);
    return err;
}

int access_reload(struct access *access)
{
    int callers, workers;

    if (!access->security) {
        log_info("there are no keys to read again: this broker has no --key");
        return 0;
    }
    callers = reload_side(access, BROKER_FRONT, access->security->callers);
    workers = reload_side(access, BROKER_BACK, access->security->workers);
    return workers < 0 ? workers : callers;
}

size_t access_take(struct access *access, enum broker_side side, uint16_t **gone)
{
    size_t n;

    pthread_mutex_lock(&access->lock);
    *gone = access->gone[side];
    n = access->n_gone[side];
    access->gone[side] = NULL;
    access->n_gone[side] = 0;
    atomic_store(&access->news, access->n_gone[BROKER_FRONT] + access->n_gone[BROKER_BACK] > 0);
    pthread_mutex_unlock(&access->lock);
    return n;
}
