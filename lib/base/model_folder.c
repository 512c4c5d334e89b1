#include "base/model_folder.h"

#include "base/log.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static int fits(int length, size_t size)
{
    return length < 0 || (size_t)length >= size ? -ENAMETOOLONG : 0;
}

int model_folder_default(char *path, size_t size)
{
    const char *data = getenv("XDG_DATA_HOME");
    const char *home = getenv("HOME");

    if (data && data[0] == '/') /* the specification has relative ones ignored */
        return fits(snprintf(path, size, "%s/dragoman/models", data), size);
    if (!home || !home[0])
        return -ENOENT;
    return fits(snprintf(path, size, "%s/.local/share/dragoman/models", home), size);
}

int model_folder_find(const char *models, const char *model, char *path, size_t size)
{
    struct stat st;
    size_t length;
    int err;

    if (strchr(model, '/') || stat(model, &st) == 0)
        return fits(snprintf(path, size, "%s", model), size);
    if (models && models[0])
        return fits(snprintf(path, size, "%s/%s", models, model), size);
    err = model_folder_default(path, size);
    if (err < 0)
        return err;
    length = strlen(path);
    return fits(snprintf(path + length, size - length, "/%s", model), size - length);
}

void model_folder_name(const char *path, char *name, size_t size)
{
    size_t end = strlen(path), begin;

    while (end > 1 && path[end - 1] == '/')
        end--;
    for (begin = end; begin > 0 && path[begin - 1] != '/';)
        begin--;
    snprintf(name, size, "%.*s", (int)(end - begin), path + begin);
}

int model_folder_open(const char *models, const char *model, const char *as, const char *remedy,
                      char *path, size_t size, char *name)
{
    struct stat st;
    int err;

    if (!model || !model[0]) {
        log_error("cannot serve without a model: %s", remedy);
        return -EINVAL;
    }
    err = model_folder_find(models, model, path, size);
    if (err < 0) {
        log_error("cannot find the model '%s': %s", model,
                  err == -ENOENT ? "no folder of models is known, name it with --models"
                                 : "its path is too long");
        return err;
    }
    if (as)
        snprintf(name, MODEL_NAME_BYTES, "%s", as);
    else
        model_folder_name(path, name, MODEL_NAME_BYTES);
    if (stat(path, &st) < 0) {
        log_error("cannot find the model '%s': get it with 'dragoman models pull %s'", path, name);
        return -ENOENT;
    }
    return 0;
}
