/*
 * strip.h - a window on a signal that is being made: (C, columns), the older ones forgotten
 *
 * Columns are numbered from the signal's start. A strip is born with `halo` zero columns before
 * column 0; vits_strip_finish() puts as many after the last. So convolutions never ask where the
 * signal ends.
 */
#ifndef TTS_VITS_STRIP_H
#define TTS_VITS_STRIP_H

#include <stddef.h>
#include <stdint.h>

struct vits_strip {
    float *data; /* row c at data + c * ld, column `begin` first */
    size_t channels, halo, ld;
    int64_t begin, end; /* columns held, zeros included */
    int64_t needed;     /* the first that is still wanted */
    int64_t total;      /* of the signal; INT64_MAX until it is known */
};

int vits_strip_init(struct vits_strip *strip, size_t channels, size_t halo); /* 0; -ENOMEM */
void vits_strip_fini(struct vits_strip *strip);

/** Make room for n more columns at the end, which then hold anything; forgets what is not needed. */
int vits_strip_grow(struct vits_strip *strip, size_t n); /* 0; -ENOMEM */
/** Columns before this one are not needed any more. */
void vits_strip_drop(struct vits_strip *strip, int64_t before);
/** The signal ends here: zeros follow. */
int vits_strip_finish(struct vits_strip *strip); /* 0; -ENOMEM */

/** Column t of row 0. */
static inline float *vits_strip_at(const struct vits_strip *strip, int64_t t)
{
    return strip->data + (t - strip->begin);
}

#endif
