/*
 * meta.h - metadata and the Meta block that carries it; inside lib/mesh and for the broker
 */
#ifndef MESH_META_H
#define MESH_META_H

#include "base/status.h"
#include "mesh/metadata.h"
#include "proto/mesh.pb-c.h"

#include <stdbool.h>

#define MESH_DETAILS_KEY                                                                           \
    "mesh-status-details-bin" /* a caller finds an END's details among its trailers */

/** Let a Meta about to be packed point at the entries of a list, which must outlive it. */
void mesh_metadata_lend(const struct mesh_metadata *metadata, Dragoman__Mesh__V1__Meta *meta);

/** Copy and check the entries of an unpacked Meta. *out is NULL when there are none. @return 0;
 *  -EBADMSG for a bad key or text; -ENOMEM */
int mesh_metadata_take(const Dragoman__Mesh__V1__Meta *meta, struct mesh_metadata **out);

/** Put the details of an END among its trailers, whatever room they take: its Meta has bounded all. @return 0; -ENOMEM */
int mesh_metadata_take_details(const Dragoman__Mesh__V1__Meta *meta,
                               struct mesh_metadata **trailers);
/** The details among trailers; borrowed from them; NULL: none. */
const void *mesh_metadata_details(const struct mesh_metadata *trailers, size_t *size);

/** The status of an END: its number from the header, the rest from the Meta (NULL: none). */
void mesh_status_read(uint16_t number, const Dragoman__Mesh__V1__Meta *meta, struct status *out);

/** A selector as text, "lang=en,model=tiny.en". */
struct mesh_selector;

/** @return 0; -EINVAL for text that is none; -ENOMEM. *out is NULL for NULL or "". */
int mesh_selector_parse(const char *text, struct mesh_selector **out);
void mesh_selector_lend(const struct mesh_selector *selector, Dragoman__Mesh__V1__Meta *meta);
void mesh_selector_destroy(struct mesh_selector **selector);

/** Whether each wanted label has one of its values among the worker's. */
bool mesh_labels_match(Dragoman__Mesh__V1__Label *const *wanted, size_t n_wanted,
                       Dragoman__Mesh__V1__Label *const *offered, size_t n_offered);

/**
 * Fill what a call carries on: the trace that it belongs to.
 *
 * @param trace  32 hex digits, or a whole traceparent "00-<trace id>-<span id>-<flags>"; NULL: the thread's trace
 *               (trace_set_current()), or a new one
 * @return 1: its span is the call's parent; 0: it names the trace alone; -EINVAL
 */
int mesh_traceparent_make(const char *trace, uint8_t out[MESH_TRACEPARENT_BYTES]);
/** Where it stands in a packed Meta of OPEN; NULL: nowhere. */
const uint8_t *mesh_traceparent_find(const uint8_t *packed, size_t size);
/** Put another one into a Meta that is packed already and has one. @return 0; -ENOENT */
int mesh_traceparent_replace(uint8_t *packed, size_t size,
                             const uint8_t traceparent[MESH_TRACEPARENT_BYTES]);

/** Random bits of this thread; not for secrets. */
uint64_t mesh_random(void);

#endif
