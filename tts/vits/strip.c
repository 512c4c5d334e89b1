#include "tts/vits/strip.h"

#include "tts/vits/conv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Move the needed columns to the front of rows of `ld`, in place or to another memory. */
static void move_rows(struct vits_strip *strip, float *to, size_t ld)
{
    size_t skip = (size_t)(strip->needed - strip->begin);
    size_t kept = (size_t)(strip->end - strip->needed);

    for (size_t c = 0; c < strip->channels; c++)
        memmove(to + c * ld, strip->data + c * strip->ld + skip, kept * sizeof(float));
    strip->begin = strip->needed;
}

/* Rows of at least `columns`; what the kernels read past the last is there and defined. */
static int enlarge(struct vits_strip *strip, size_t columns)
{
    size_t ld = (columns + columns / 4 + 15) / 16 * 16;
    size_t bytes = (strip->channels * ld + VITS_SLACK) * sizeof(float);
    float *data = compute_alloc(bytes);

    if (!data)
        return -ENOMEM;
    memset(data, 0, bytes);
    if (strip->data)
        move_rows(strip, data, ld);
    free(strip->data);
    strip->data = data;
    strip->ld = ld;
    return 0;
}

int vits_strip_init(struct vits_strip *strip, size_t channels, size_t halo)
{
    memset(strip, 0, sizeof(*strip));
    strip->channels = channels;
    strip->halo = halo;
    strip->begin = strip->needed = -(int64_t)halo;
    strip->total = INT64_MAX;
    return enlarge(strip, halo + 1);
}

void vits_strip_fini(struct vits_strip *strip)
{
    free(strip->data);
    memset(strip, 0, sizeof(*strip));
}

int vits_strip_grow(struct vits_strip *strip, size_t n)
{
    size_t columns = (size_t)(strip->end - strip->needed) + n;

    if (columns > strip->ld) {
        int err = enlarge(strip, columns);

        if (err < 0)
            return err;
    } else if (strip->needed > strip->begin) {
        move_rows(strip, strip->data, strip->ld);
    }
    strip->end += (int64_t)n;
    return 0;
}

void vits_strip_drop(struct vits_strip *strip, int64_t before)
{
    if (before > strip->end)
        before = strip->end;
    if (before > strip->needed)
        strip->needed = before;
}

int vits_strip_finish(struct vits_strip *strip)
{
    int64_t at = strip->end;

    strip->total = at;
    if (vits_strip_grow(strip, strip->halo) < 0)
        return -ENOMEM;
    for (size_t c = 0; c < strip->channels; c++)
        memset(vits_strip_at(strip, at) + c * strip->ld, 0, strip->halo * sizeof(float));
    return 0;
}
