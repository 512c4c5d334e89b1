/*
 * selector.h - what a call demands of its worker, in one canonical form
 *
 * Two OPENs that demand the same give selectors that selector_equal() calls so, in whatever order they
 * named keys and values. NULL is the selector that any worker matches.
 */
#ifndef BROKER_SELECTOR_H
#define BROKER_SELECTOR_H

#include "proto/mesh.pb-c.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct selector;

/** @param out  NULL for no labels at all. @return 0; -EINVAL: a key without values; -ENOMEM */
int selector_create(Dragoman__Mesh__V1__Label *const *labels, size_t n, struct selector **out);
void selector_destroy(struct selector **selector);

bool selector_equal(const struct selector *a, const struct selector *b);

/** The same for equal ones. */
uint64_t selector_hash(const struct selector *selector);

/** Whether a worker with these labels has, for each key, one of the wanted values. */
bool selector_matches(const struct selector *selector, Dragoman__Mesh__V1__Label *const *labels,
                      size_t n);

/** For people: "pair=en-xx, voice=joe|amy", cut to size. */
void selector_text(const struct selector *selector, char *out, size_t size);

#endif
