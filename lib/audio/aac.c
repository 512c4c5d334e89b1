#include "audio/aac.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <vo-aacenc/cmnMemory.h>
#include <vo-aacenc/voAAC.h>

#define FRAME 1024     /* samples */
#define FRAME_MAX 8192 /* bytes: ADTS has 13 bits for the length */

struct aac_encoder {
    VO_AUDIO_CODECAPI api;
    VO_MEM_OPERATOR memory;
    VO_HANDLE handle;
    int16_t frame[FRAME];
    size_t have;
};

int aac_encoder_create(uint32_t rate_hz, struct aac_encoder **out)
{
    struct aac_encoder *aac = calloc(1, sizeof(*aac));
    VO_CODEC_INIT_USERDATA user = {.memflag = VO_IMF_USERMEMOPERATOR};
    /* The codec refuses more than 6 bits a sample; 48 kbit/s is ample for one voice. */
    AACENC_PARAM params = {.sampleRate = (int)rate_hz, .nChannels = 1, .adtsUsed = 1};
    int err = -EINVAL;

    if (!aac)
        return -ENOMEM;
    params.bitRate = rate_hz * 4 < 48000 ? (int)rate_hz * 4 : 48000;
    aac->memory = (VO_MEM_OPERATOR){.Alloc = cmnMemAlloc,
                                    .Copy = cmnMemCopy,
                                    .Free = cmnMemFree,
                                    .Set = cmnMemSet,
                                    .Check = cmnMemCheck};
    user.memData = &aac->memory;
    if (voGetAACEncAPI(&aac->api) != VO_ERR_NONE ||
        aac->api.Init(&aac->handle, VO_AUDIO_CodingAAC, &user) != VO_ERR_NONE)
        goto done;
    if (aac->api.SetParam(aac->handle, VO_PID_AAC_ENCPARAM, &params) != VO_ERR_NONE)
        goto done;
    *out = aac;
    aac = NULL;
    err = 0;
done:
    aac_encoder_destroy(&aac);
    return err;
}

static int encode_frame(struct aac_encoder *aac,
                        int (*sink)(void *arg, const void *data, size_t size), void *arg)
{
    uint8_t bytes[FRAME_MAX];
    VO_CODECBUFFER in = {.Buffer = (VO_PBYTE)aac->frame, .Length = sizeof(aac->frame)};
    VO_CODECBUFFER out = {.Buffer = bytes, .Length = sizeof(bytes)};
    VO_AUDIO_OUTPUTINFO info = {0};

    aac->have = 0;
    if (aac->api.SetInputData(aac->handle, &in) != VO_ERR_NONE ||
        aac->api.GetOutputData(aac->handle, &out, &info) != VO_ERR_NONE)
        return -EIO;
    return out.Length ? sink(arg, bytes, out.Length) : 0;
}

int aac_encoder_write(struct aac_encoder *aac, const int16_t *pcm, size_t n,
                      int (*sink)(void *arg, const void *data, size_t size), void *arg)
{
    while (n) {
        size_t now = FRAME - aac->have < n ? FRAME - aac->have : n;

        memcpy(aac->frame + aac->have, pcm, now * sizeof(*pcm));
        aac->have += now;
        pcm += now;
        n -= now;
        if (aac->have == FRAME) {
            int err = encode_frame(aac, sink, arg);

            if (err)
                return err;
        }
    }
    return 0;
}

int aac_encoder_finish(struct aac_encoder *aac,
                       int (*sink)(void *arg, const void *data, size_t size), void *arg)
{
    if (!aac->have)
        return 0;
    memset(aac->frame + aac->have, 0, (FRAME - aac->have) * sizeof(aac->frame[0]));
    return encode_frame(aac, sink, arg);
}

void aac_encoder_destroy(struct aac_encoder **aac)
{
    if (!*aac)
        return;
    if ((*aac)->handle)
        (*aac)->api.Uninit((*aac)->handle);
    free(*aac);
    *aac = NULL;
}
