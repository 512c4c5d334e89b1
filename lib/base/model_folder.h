/*
 * model_folder.h - where models lie on this machine: a folder each, in one folder of them all
 */
#ifndef BASE_MODEL_FOLDER_H
#define BASE_MODEL_FOLDER_H

#include <stddef.h>

#define MODEL_NAME_BYTES 256

/** $XDG_DATA_HOME/dragoman/models, or ~/.local/share/dragoman/models.
 *  @return 0; -ENOENT without either; -ENAMETOOLONG */
int model_folder_default(char *path, size_t size);

/**
 * What --model means: a path, a folder here, or else a name among the models.
 *
 * @param models  their folder; "" or NULL: the default one
 * @return 0 (whether it exists or not); -ENOENT when there is no default; -ENAMETOOLONG
 */
int model_folder_find(const char *models, const char *model, char *path, size_t size);

/** "/models/whisper-tiny.en/" to "whisper-tiny.en", cut at size. */
void model_folder_name(const char *path, char *name, size_t size);

/**
 * A service's model: its folder, which is there, and its name. What is wrong is logged with its remedy.
 *
 * @param models  as of model_folder_find()
 * @param model   as the user said it; NULL or "": none, refused with `remedy`
 * @param as      what the user wants it called; NULL: as its folder
 * @param remedy  "name one with --model, e.g. marian-en-pt"
 * @param name    (MODEL_NAME_BYTES)
 * @return 0; -EINVAL without a model; -ENOENT; -ENAMETOOLONG
 */
int model_folder_open(const char *models, const char *model, const char *as, const char *remedy,
                      char *path, size_t size, char *name);

#endif
