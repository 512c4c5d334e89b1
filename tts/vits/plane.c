#include "tts/vits/plane.h"

#include "tts/vits/conv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int vits_plane_init(struct vits_plane *plane, size_t c, size_t n, size_t halo)
{
    size_t ld = (n + 2 * halo + 15) / 16 * 16, floats;

    memset(plane, 0, sizeof(*plane));
    if (__builtin_mul_overflow(c, ld, &floats) || floats > SIZE_MAX / 8 - VITS_SLACK)
        return -ENOMEM;
    floats += VITS_SLACK;
    plane->memory = compute_alloc(floats * sizeof(float));
    if (!plane->memory)
        return -ENOMEM;
    memset(plane->memory, 0, floats * sizeof(float));
    plane->data = plane->memory + halo;
    plane->c = c;
    plane->n = n;
    plane->halo = halo;
    plane->ld = ld;
    return 0;
}

void vits_plane_fini(struct vits_plane *plane)
{
    free(plane->memory);
    memset(plane, 0, sizeof(*plane));
}
