#include "audio/vorbis.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <vorbis/vorbisfile.h>

#define HOLES_MAX 1000 /* gaps in a row that are read over */

struct vorbis_decoder {
    OggVorbis_File file;
    bool open;
    const uint8_t *data;
    size_t size, at;
    long rate;
    int channels;
};

static size_t take(void *out, size_t size, size_t n, void *arg)
{
    struct vorbis_decoder *vorbis = arg;
    size_t bytes = size * n;

    if (bytes > vorbis->size - vorbis->at)
        bytes = vorbis->size - vorbis->at;
    memcpy(out, vorbis->data + vorbis->at, bytes);
    vorbis->at += bytes;
    return size ? bytes / size : 0;
}

int vorbis_decoder_create(const void *data, size_t size, struct vorbis_decoder **out,
                          uint32_t *rate_hz, uint32_t *channels)
{
    const ov_callbacks callbacks = {.read_func = take}; /* no seeking: it is read once, forwards */
    struct vorbis_decoder *vorbis = calloc(1, sizeof(*vorbis));
    const vorbis_info *info;
    int err = -ENOMEM;

    if (!vorbis)
        goto done;
    vorbis->data = data;
    vorbis->size = size;
    err = -EBADMSG;
    if (ov_open_callbacks(vorbis, &vorbis->file, NULL, 0, callbacks) != 0)
        goto done;
    vorbis->open = true;
    info = ov_info(&vorbis->file, -1);
    if (!info || info->rate <= 0 || info->channels < 1)
        goto done;
    vorbis->rate = info->rate;
    vorbis->channels = info->channels;
    *rate_hz = (uint32_t)info->rate;
    *channels = (uint32_t)info->channels;
    *out = vorbis;
    vorbis = NULL;
    err = 0;
done:
    vorbis_decoder_destroy(&vorbis);
    return err;
}

/* A chained file may change its format in the middle; that is where it ends for us. */
static bool same_format(struct vorbis_decoder *vorbis)
{
    const vorbis_info *info = ov_info(&vorbis->file, -1);

    return info && info->rate == vorbis->rate && info->channels == vorbis->channels;
}

size_t vorbis_decoder_read(struct vorbis_decoder *vorbis, float *frames, size_t n)
{
    size_t have = 0;
    int holes = 0;

    while (have < n) {
        float **pcm = NULL;
        int link = 0;
        long got = ov_read_float(&vorbis->file, &pcm, (int)(n - have), &link);

        if (got == OV_HOLE && ++holes < HOLES_MAX)
            continue;
        if (got <= 0 || !same_format(vorbis))
            break;
        holes = 0;
        for (long i = 0; i < got; i++) {
            for (int c = 0; c < vorbis->channels; c++)
                frames[(have + (size_t)i) * (size_t)vorbis->channels + (size_t)c] = pcm[c][i];
        }
        have += (size_t)got;
    }
    return have;
}

void vorbis_decoder_destroy(struct vorbis_decoder **vorbis)
{
    if (!*vorbis)
        return;
    if ((*vorbis)->open)
        ov_clear(&(*vorbis)->file);
    free(*vorbis);
    *vorbis = NULL;
}
