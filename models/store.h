/*
 * store.h - the folder on disk that holds the models, each in a folder of its name
 *
 * A model's folder appears whole or not at all. Everything unfinished is in ".pull" within the
 * store; whoever changes the store holds its lock.
 */
#ifndef MODELS_STORE_H
#define MODELS_STORE_H

#include "models/catalogue.h"

#define STORE_PATH_MAX 4096

enum store_state {
    STORE_ABSENT,  /* no folder of that name */
    STORE_PARTIAL, /* a file is missing or of another size */
    STORE_PRESENT,
};

/** Look at the sizes only. */
enum store_state store_state(const char *folder, const struct catalogue_model *model);

/** Read every byte. @return 0; -ENOENT absent; -EBADMSG with the first file that is wrong named */
int store_verify(const char *folder, const struct catalogue_model *model, struct failure *failure);

/** Delete a model's folder and everything in it. @return 0; -ENOENT; -errno */
int store_remove(const char *folder, const struct catalogue_model *model, struct failure *failure);

/**
 * Take the store's lock, making the store first when it is not there.
 *
 * @param waiting  called once when somebody else holds it; may be NULL
 * @param fd       close it to release the lock
 * @return 0; -errno
 */
int store_lock(const char *folder, void (*waiting)(void *arg), void *arg, int *fd,
               struct failure *failure);

/** Where unfinished things go: "FOLDER/.pull/NAME" (NAME may be ""). @return 0; -ENAMETOOLONG */
int store_staging_path(const char *folder, const char *name, char *path, size_t size);

/** mkdir -p. @return 0; -errno */
int store_make_folders(const char *path);

/** rm -r, within the lock. @return 0, also when there is nothing; -errno */
int store_delete_tree(const char *path);

/** "FOLDER/MODEL/FILE". @return 0; -ENAMETOOLONG */
int store_join(char *path, size_t size, const char *folder, const char *model, const char *file);

#endif
