#include "compute/weights/weights.h"

#include "compute/ops.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

const struct weights_tensor *weights_find(const struct weights *weights, const char *name)
{
    size_t low = 0, high = weights->n_tensors;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = strcmp(name, weights->tensors[middle].name);

        if (order == 0)
            return &weights->tensors[middle];
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
}

static void s8_to_f32(const struct weights_tensor *tensor, float *out)
{
    const int8_t *src = tensor->data;

    for (size_t i = 0; i < tensor->count; i++)
        out[i] = (float)src[i] / tensor->multiplier;
}

static void integers_to_f32(const struct weights_tensor *tensor, float *out)
{
    const char *src = tensor->data;

    for (size_t i = 0; i < tensor->count; i++) {
        int16_t s16;
        int32_t s32;
        int64_t s64;

        if (tensor->type == WEIGHTS_S16) {
            memcpy(&s16, src + 2 * i, 2);
            out[i] = s16;
        } else if (tensor->type == WEIGHTS_S32) {
            memcpy(&s32, src + 4 * i, 4);
            out[i] = (float)s32;
        } else {
            memcpy(&s64, src + 8 * i, 8);
            out[i] = (float)s64;
        }
    }
}

void weights_to_f32(const struct weights_tensor *tensor, float *out)
{
    switch (tensor->type) {
    case WEIGHTS_F32:
        memcpy(out, tensor->data, tensor->count * sizeof(float));
        break;
    case WEIGHTS_F16:
        compute_f16_to_f32(tensor->data, tensor->count, out);
        break;
    case WEIGHTS_BF16:
        compute_bf16_to_f32(tensor->data, tensor->count, out);
        break;
    case WEIGHTS_S8:
        s8_to_f32(tensor, out);
        break;
    case WEIGHTS_S16:
    case WEIGHTS_S32:
    case WEIGHTS_S64:
        integers_to_f32(tensor, out);
        break;
    }
}

void weights_close(struct weights *weights)
{
    if (weights->map)
        munmap(weights->map, weights->map_bytes);
    free(weights->tensors);
    free(weights->owned);
    memset(weights, 0, sizeof(*weights));
}

int weights_map_file(const char *path, void **map, size_t *bytes)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat st;
    void *at = MAP_FAILED;
    int err = 0;

    if (fd < 0)
        return -errno;
    if (fstat(fd, &st) < 0)
        err = -errno;
    else if (!S_ISREG(st.st_mode) || st.st_size == 0)
        err = S_ISDIR(st.st_mode) ? -EISDIR : -EBADMSG;
    if (!err) {
        at = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        err = at == MAP_FAILED ? -errno : 0;
    }
    close(fd);
    if (err)
        return err;
    *map = at;
    *bytes = (size_t)st.st_size;
    return 0;
}
