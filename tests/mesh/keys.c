#include "tests/mesh/keys.h"

#include "tests/mesh/rig.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void path_of(const struct keys *keys, const char *group, const char *name, char *out,
                    size_t size)
{
    snprintf(out, size, "%s/%s%s%s%s", keys->folder, group, name ? "/" : "", name ? name : "",
             name ? ".cert" : "");
}

static struct mesh_keyring *open_group(const struct keys *keys, const char *group)
{
    struct mesh_keyring *keyring = NULL;
    char path[256], why[MESH_WHY_MAX] = "";

    path_of(keys, group, NULL, path, sizeof(path));
    if (mesh_keyring_create(path, &keyring, why) < 0)
        fail_msg("%s", why);
    return keyring;
}

struct mesh_security keys_new(const struct keys *keys, const char *group, const char *name,
                              const char *services)
{
    struct mesh_security security = {.broker = keys->broker.own};
    char path[256], why[MESH_WHY_MAX] = "";

    mesh_certificate_wipe(&security.broker);
    if (mesh_certificate_create(name, services, &security.own, why) < 0)
        fail_msg("%s", why);
    if (group) {
        path_of(keys, group, name, path, sizeof(path));
        if (mesh_certificate_save(&security.own, path, false, why) < 0)
            fail_msg("%s", why);
    }
    return security;
}

void keys_remove(const struct keys *keys, const char *group, const char *name)
{
    char path[256];

    path_of(keys, group, name, path, sizeof(path));
    assert_int_equal(unlink(path), 0);
}

void keys_create(struct keys *keys)
{
    char path[256];

    *keys = (struct keys){.folder = "/tmp/dragoman-keys-XXXXXX"};
    assert_non_null(mkdtemp(keys->folder));
    for (int i = 0; i < 2; i++) {
        path_of(keys, i ? "workers" : "callers", NULL, path, sizeof(path));
        assert_int_equal(mkdir(path, 0700), 0);
    }
    keys->broker = keys_new(keys, NULL, "broker", NULL);
    keys->caller = keys_new(keys, "callers", "caller", NULL);
    keys->worker = keys_new(keys, "workers", "worker", NULL);
    keys->broker.callers = open_group(keys, "callers");
    keys->broker.workers = open_group(keys, "workers");
}

static int remove_one(const char *path, const struct stat *stat, int type, struct FTW *where)
{
    (void)stat, (void)type, (void)where;
    return remove(path);
}

void keys_destroy(struct keys *keys)
{
    mesh_security_wipe(&keys->broker);
    mesh_security_wipe(&keys->caller);
    mesh_security_wipe(&keys->worker);
    nftw(keys->folder, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}
