#include "audio/mp3.h"

#include <errno.h>
#include <mpg123.h>
#include <stdlib.h>

#define FEED 16384              /* bytes given at once */
#define SYNC_WITHIN (256 << 10) /* of junk before the first frame; tags do not count */

struct mp3_decoder {
    mpg123_handle *handle;
    const uint8_t *data;
    size_t size, at;
    uint32_t channels;
};

static int feed(struct mp3_decoder *mp3)
{
    size_t n = mp3->size - mp3->at < FEED ? mp3->size - mp3->at : FEED;

    if (!n || mpg123_feed(mp3->handle, mp3->data + mp3->at, n) != MPG123_OK)
        return -ENODATA;
    mp3->at += n;
    return 0;
}

/* Decode until the format is known: one rate, one number of channels for the whole file. */
static int find_format(struct mp3_decoder *mp3, uint32_t *rate_hz, uint32_t *channels)
{
    long rate = 0;
    int n_channels = 0, encoding = 0, result;

    while ((result = mpg123_read(mp3->handle, NULL, 0, NULL)) == MPG123_NEED_MORE) {
        if (feed(mp3) < 0)
            return -EBADMSG;
    }
    if (result != MPG123_NEW_FORMAT ||
        mpg123_getformat(mp3->handle, &rate, &n_channels, &encoding) != MPG123_OK ||
        encoding != MPG123_ENC_FLOAT_32 || rate <= 0 || n_channels < 1 || n_channels > 2)
        return -EBADMSG;
    mp3->channels = *channels = (uint32_t)n_channels;
    *rate_hz = (uint32_t)rate;
    return 0;
}

int mp3_decoder_create(const void *data, size_t size, struct mp3_decoder **out, uint32_t *rate_hz,
                       uint32_t *channels)
{
    struct mp3_decoder *mp3 = calloc(1, sizeof(*mp3));
    int err = -ENOMEM;

    if (!mp3)
        goto done;
    mp3->data = data;
    mp3->size = size;
    mp3->handle = mpg123_new(NULL, NULL);
    if (!mp3->handle)
        goto done;
    mpg123_param(mp3->handle, MPG123_ADD_FLAGS,
                 MPG123_QUIET | MPG123_FORCE_FLOAT | MPG123_SKIP_ID3V2, 0);
    mpg123_param(mp3->handle, MPG123_RESYNC_LIMIT, SYNC_WITHIN, 0);
    err = -EBADMSG;
    if (mpg123_open_feed(mp3->handle) != MPG123_OK)
        goto done;
    err = find_format(mp3, rate_hz, channels);
    if (err < 0)
        goto done;
    *out = mp3;
    mp3 = NULL;
done:
    mp3_decoder_destroy(&mp3);
    return err;
}

size_t mp3_decoder_read(struct mp3_decoder *mp3, float *frames, size_t n)
{
    const size_t frame_bytes = sizeof(float) * mp3->channels;
    size_t have = 0;

    while (have < n) {
        size_t bytes = 0;
        int result = mpg123_read(mp3->handle, frames + have * mp3->channels,
                                 (n - have) * frame_bytes, &bytes);

        have += bytes / frame_bytes;
        if (result == MPG123_NEED_MORE ? feed(mp3) < 0 : result != MPG123_OK)
            break;
    }
    return have;
}

void mp3_decoder_destroy(struct mp3_decoder **mp3)
{
    if (!*mp3)
        return;
    if ((*mp3)->handle)
        mpg123_delete((*mp3)->handle);
    free(*mp3);
    *mp3 = NULL;
}
