/*
 * package_index.h - asks a Python package index where a package's wheel is
 *
 * No index's address is part of the program. In this order: the option --index-url, the variables
 * DRAGOMAN_INDEX_URL and PIP_INDEX_URL, pip's configuration files, and what an installed pip uses
 * when it is told nothing.
 */
#ifndef MODELS_PACKAGE_INDEX_H
#define MODELS_PACKAGE_INDEX_H

#include "models/fetch.h"

/**
 * Find the index.
 *
 * @param option  the value of --index-url; NULL or "" when not given
 * @param url     (size) without a slash at its end
 * @return 0; -ENOENT when nothing names one
 */
int package_index_url(const char *option, char *url, size_t size, struct failure *failure);

struct package_wheel {
    char *name; /* of the file; holds no slash */
    char *url;  /* absolute */
    char sha256[65];
    uint64_t size; /* 0: not known */
};

/** Ask for a version's wheel. @return 0, then package_wheel_fini(); -ENOENT no such; as fetch_page() */
int package_index_find(struct fetch *fetch, const char *index_url, const char *package,
                       const char *version, struct package_wheel *out, struct failure *failure);
void package_wheel_fini(struct package_wheel *wheel);

/** The index-url that one of pip's configuration files sets: [global], [install] or [download].
 *  @return 0; -ENOENT */
int package_index_from_config(const char *path, char *url, size_t size);

#endif
