#include "models/digest.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <unistd.h>

#define CHUNK (1 << 18) /* bytes read at once */

struct digest {
    EVP_MD_CTX *context;
};

int digest_create(struct digest **out)
{
    struct digest *digest = calloc(1, sizeof(*digest));

    if (!digest)
        return -ENOMEM;
    digest->context = EVP_MD_CTX_new();
    if (!digest->context || EVP_DigestInit_ex(digest->context, EVP_sha256(), NULL) != 1) {
        digest_destroy(&digest);
        return -ENOMEM;
    }
    *out = digest;
    return 0;
}

void digest_update(struct digest *digest, const void *data, size_t size)
{
    EVP_DigestUpdate(digest->context, data, size);
}

void digest_finish(struct digest *digest, char hex[DIGEST_HEX + 1])
{
    static const char digits[] = "0123456789abcdef";
    unsigned char bytes[EVP_MAX_MD_SIZE];
    unsigned int size = 0;

    EVP_DigestFinal_ex(digest->context, bytes, &size);
    assert(size * 2 == DIGEST_HEX);
    for (unsigned int i = 0; i < size; i++) {
        hex[2 * i] = digits[bytes[i] >> 4];
        hex[2 * i + 1] = digits[bytes[i] & 15];
    }
    hex[DIGEST_HEX] = '\0';
}

void digest_destroy(struct digest **digest)
{
    if (!*digest)
        return;
    EVP_MD_CTX_free((*digest)->context);
    free(*digest);
    *digest = NULL;
}

static int update_from(struct digest *digest, int fd)
{
    char *chunk = malloc(CHUNK);
    ssize_t got;
    int err = 0;

    if (!chunk)
        return -ENOMEM;
    do {
        got = read(fd, chunk, CHUNK);
        if (got > 0)
            digest_update(digest, chunk, (size_t)got);
        else if (got < 0 && errno != EINTR)
            err = -errno;
    } while (!err && got != 0);
    free(chunk);
    return err;
}

int digest_file(const char *path, char hex[DIGEST_HEX + 1])
{
    struct digest *digest = NULL;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    int err;

    if (fd < 0)
        return -errno;
    err = digest_create(&digest);
    if (!err)
        err = update_from(digest, fd);
    if (!err)
        digest_finish(digest, hex);
    digest_destroy(&digest);
    close(fd);
    return err;
}
