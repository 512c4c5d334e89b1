/*
 * plane.h - (C, T) floats between zero columns, so that convolutions may read past both ends
 */
#ifndef TTS_VITS_PLANE_H
#define TTS_VITS_PLANE_H

#include <stddef.h>

struct vits_plane {
    float *data; /* row c at data + c * ld; zeros at [-halo, 0) and [n, n + halo) */
    size_t c, n, halo, ld;
    float *memory; /* owned */
};

/** All zeros. @return 0; -ENOMEM */
int vits_plane_init(struct vits_plane *plane, size_t c, size_t n, size_t halo);
void vits_plane_fini(struct vits_plane *plane);

static inline float *vits_plane_row(const struct vits_plane *plane, size_t c)
{
    return plane->data + c * plane->ld;
}

#endif
