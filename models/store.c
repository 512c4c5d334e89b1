#include "models/store.h"

#include "models/digest.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

int store_join(char *path, size_t size, const char *folder, const char *model, const char *file)
{
    int length;

    if (file)
        length = snprintf(path, size, "%s/%s/%s", folder, model, file);
    else
        length = snprintf(path, size, "%s/%s", folder, model);
    return length < 0 || (size_t)length >= size ? -ENAMETOOLONG : 0;
}

int store_staging_path(const char *folder, const char *name, char *path, size_t size)
{
    return store_join(path, size, folder, ".pull", name[0] ? name : NULL);
}

int store_make_folders(const char *path)
{
    char partial[STORE_PATH_MAX];
    size_t length = strlen(path);

    if (length >= sizeof(partial))
        return -ENAMETOOLONG;
    memcpy(partial, path, length + 1);
    for (size_t i = 1; i <= length; i++) {
        if (partial[i] != '/' && partial[i] != '\0')
            continue;
        partial[i] = '\0';
        if (mkdir(partial, 0777) < 0 && errno != EEXIST)
            return -errno;
        partial[i] = path[i];
    }
    return 0;
}

static int delete_entry(const char *path, const struct stat *st, int type, struct FTW *where)
{
    (void)st;
    (void)type;
    (void)where;
    return remove(path) < 0 ? -errno : 0;
}

int store_delete_tree(const char *path)
{
    int err = nftw(path, delete_entry, 16, FTW_DEPTH | FTW_PHYS);

    if (err == -1)
        err = -errno;
    return err == -ENOENT ? 0 : err;
}

enum store_state store_state(const char *folder, const struct catalogue_model *model)
{
    char path[STORE_PATH_MAX];
    struct stat st;

    if (store_join(path, sizeof(path), folder, model->name, NULL) < 0 || stat(path, &st) < 0)
        return STORE_ABSENT;
    for (size_t i = 0; i < model->n_files; i++) {
        const struct catalogue_file *file = &model->files[i];

        if (store_join(path, sizeof(path), folder, model->name, file->name) < 0 ||
            stat(path, &st) < 0 || (uint64_t)st.st_size != file->size)
            return STORE_PARTIAL;
    }
    return STORE_PRESENT;
}

static int verify_file(const char *path, const struct catalogue_file *file, struct failure *failure)
{
    char hex[DIGEST_HEX + 1];
    struct stat st;
    int err;

    if (stat(path, &st) < 0)
        return failure_set(failure, -EBADMSG, "'%s' is missing", file->name);
    if ((uint64_t)st.st_size != file->size)
        return failure_set(failure, -EBADMSG, "'%s' has %lld bytes, not %llu", file->name,
                           (long long)st.st_size, (unsigned long long)file->size);
    err = digest_file(path, hex);
    if (err)
        return failure_set(failure, err, "cannot read '%s': %s", path, strerror(-err));
    if (strcmp(hex, file->sha256) != 0)
        return failure_set(failure, -EBADMSG,
                           "'%s' is damaged: its sha256 is %.12s..., not %.12s...", file->name, hex,
                           file->sha256);
    return 0;
}

int store_verify(const char *folder, const struct catalogue_model *model, struct failure *failure)
{
    char path[STORE_PATH_MAX];
    int err = 0;

    if (store_state(folder, model) == STORE_ABSENT)
        return failure_set(failure, -ENOENT, "'%s' is not in '%s'", model->name, folder);
    for (size_t i = 0; i < model->n_files && !err; i++) {
        err = store_join(path, sizeof(path), folder, model->name, model->files[i].name);
        if (err)
            return failure_set(failure, err, "the folder's name is too long: '%s'", folder);
        err = verify_file(path, &model->files[i], failure);
    }
    return err;
}

int store_remove(const char *folder, const struct catalogue_model *model, struct failure *failure)
{
    char path[STORE_PATH_MAX], doomed[STORE_PATH_MAX];
    int err;

    if (store_state(folder, model) == STORE_ABSENT)
        return failure_set(failure, -ENOENT, "'%s' is not in '%s'", model->name, folder);
    err = store_staging_path(folder, "", path, sizeof(path));
    if (!err)
        err = store_make_folders(path);
    if (!err)
        err = store_staging_path(folder, "removed", doomed, sizeof(doomed));
    if (!err)
        err = store_delete_tree(doomed); /* of an earlier one that was cut short */
    if (!err)
        err = store_join(path, sizeof(path), folder, model->name, NULL);
    if (!err && rename(path, doomed) < 0) /* gone at once for everybody */
        err = -errno;
    if (!err)
        err = store_delete_tree(doomed);
    if (!err && store_staging_path(folder, "", doomed, sizeof(doomed)) == 0)
        rmdir(doomed); /* when no pull has left anything in it */
    if (err)
        return failure_set(failure, err, "cannot remove '%s': %s", path, strerror(-err));
    return 0;
}

int store_lock(const char *folder, void (*waiting)(void *arg), void *arg, int *fd,
               struct failure *failure)
{
    char path[STORE_PATH_MAX];
    int lock, err;

    err = store_make_folders(folder);
    if (err)
        return failure_set(failure, err,
                           "cannot make the folder '%s': %s; name another with --models DIR",
                           folder, strerror(-err));
    err = store_join(path, sizeof(path), folder, ".lock", NULL);
    if (err)
        return failure_set(failure, err, "the folder's name is too long: '%s'", folder);
    lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (lock < 0)
        return failure_set(failure, -errno,
                           "cannot write in '%s': %s; name another with --models DIR", folder,
                           strerror(errno));
    if (flock(lock, LOCK_EX | LOCK_NB) < 0) {
        if (waiting)
            waiting(arg);
        while (flock(lock, LOCK_EX) < 0) {
            if (errno == EINTR)
                continue;
            err = failure_set(failure, -errno, "cannot lock '%s': %s", path, strerror(errno));
            close(lock);
            return err;
        }
    }
    *fd = lock;
    return 0;
}
