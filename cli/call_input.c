#include "base/buffer.h"
#include "cli/call.h"
#include "cli/client.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define INPUT_MAX ((size_t)64 << 20) /* bytes of one message's JSON */
#define PIECE 65536

struct call_input {
    const char *name; /* of the file, for people */
    int fd;           /* -1: all of it is in `bytes` */
    int stop;         /* eventfd */
    struct buffer bytes;
    size_t taken; /* bytes that the last read lent out: dropped by the next */
    bool ended;
};

int call_input_open(const char *operand, struct call_input **out)
{
    struct call_input *input = calloc(1, sizeof(*input));
    int err = -ENOMEM;

    if (!input)
        return err;
    buffer_init(&input->bytes, INPUT_MAX + PIECE);
    input->fd = -1;
    input->name = "standard input";
    input->stop = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    err = input->stop < 0 ? -errno : 0;
    if (err == 0 && (!operand || strcmp(operand, "-") == 0)) {
        input->fd = STDIN_FILENO;
        input->ended = !operand && isatty(STDIN_FILENO); /* nobody is asked to type */
    } else if (err == 0 && operand[0] == '@') {
        input->name = operand + 1;
        input->fd = open(input->name, O_RDONLY | O_CLOEXEC);
        if (input->fd < 0) {
            err = -errno;
            client_fail("cannot read '%s': %s", input->name, strerror(-err));
        }
    } else if (err == 0) {
        err = buffer_append(&input->bytes, operand, strlen(operand));
        input->ended = true;
    }
    if (err < 0)
        call_input_close(&input);
    *out = input;
    return err;
}

/* Wait for more. @return 0, at the end too; -ECANCELED; -EIO and -EMSGSIZE after a message */
static int fill(struct call_input *input)
{
    struct pollfd fds[] = {{.fd = input->fd, .events = POLLIN},
                           {.fd = input->stop, .events = POLLIN}};
    char piece[PIECE];
    ssize_t n;

    while (poll(fds, 2, -1) < 0)
        if (errno != EINTR)
            return -EIO;
    if (fds[1].revents)
        return -ECANCELED;
    n = read(input->fd, piece, sizeof(piece));
    if (n < 0) {
        client_fail("cannot read %s: %s", input->name, strerror(errno));
        return -EIO;
    }
    input->ended = n == 0;
    if (input->bytes.size + (size_t)n > INPUT_MAX) {
        client_fail("%s: a message of more than %zu MiB", input->name, INPUT_MAX >> 20);
        return -EMSGSIZE;
    }
    return buffer_append(&input->bytes, piece, (size_t)n);
}

static bool is_blank(const char *text, size_t size)
{
    for (size_t i = 0; i < size; i++)
        if (!strchr(" \t\r\n", text[i]) || !text[i])
            return false;
    return true;
}

/* Lend the first n bytes, of them `size` as text. */
static void lend(struct call_input *input, size_t n, size_t size, const char **text, size_t *out)
{
    input->taken = n;
    input->bytes.data[size] = '\0'; /* a line's end, or the NUL behind all */
    *text = (const char *)input->bytes.data;
    *out = size;
}

int call_input_read(struct call_input *input, bool whole, const char **text, size_t *size)
{
    size_t looked = 0; /* bytes without a line's end */
    int err = 0;

    buffer_consume(&input->bytes, input->taken);
    input->taken = 0;
    while (err == 0) {
        const char *data = (const char *)input->bytes.data;
        size_t n = input->bytes.size;
        const char *end = whole || n == looked ? NULL : memchr(data + looked, '\n', n - looked);

        if (end && is_blank(data, (size_t)(end - data))) {
            buffer_consume(&input->bytes, (size_t)(end - data) + 1);
            looked = 0;
        } else if (end) {
            lend(input, (size_t)(end - data) + 1, (size_t)(end - data), text, size);
            return 0;
        } else if (input->ended) {
            if (n == 0 || is_blank(data, n))
                return -ENODATA;
            lend(input, n, n, text, size);
            return 0;
        } else {
            looked = n;
            err = fill(input);
        }
    }
    return err;
}

void call_input_stop(struct call_input *input)
{
    eventfd_write(input->stop, 1);
}

void call_input_close(struct call_input **input)
{
    struct call_input *self = *input;

    if (!self)
        return;
    if (self->fd > STDIN_FILENO)
        close(self->fd);
    if (self->stop >= 0)
        close(self->stop);
    buffer_fini(&self->bytes);
    free(self);
    *input = NULL;
}
