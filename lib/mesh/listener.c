#include "mesh/listener.h"

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define BACKLOG 1024

static int address(const char *name, struct sockaddr_un *out, socklen_t *size)
{
    size_t length = strlen(name);

    if (length == 0 || strcmp(name, "@") == 0)
        return -EINVAL;
    if (length >= sizeof(out->sun_path))
        return -ENAMETOOLONG;
    *out = (struct sockaddr_un){.sun_family = AF_UNIX};
    memcpy(out->sun_path, name, length);
    *size = (socklen_t)sizeof(*out);
    if (*name == '@') {
        out->sun_path[0] = '\0';
        *size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length);
    }
    return 0;
}

static int open_unix(void)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    return fd < 0 ? -errno : fd;
}

/* A path, of which there is a file. */
static bool has_file(const struct sockaddr_un *name, struct stat *file)
{
    return name->sun_path[0] != '\0' && lstat(name->sun_path, file) == 0;
}

static int start(struct mesh_listener *listener, socklen_t size)
{
    struct stat file;

    if (has_file(&listener->name, &file) && S_ISSOCK(file.st_mode))
        unlink(listener->name.sun_path);
    if (bind(listener->fd, (struct sockaddr *)&listener->name, size) < 0)
        return -errno;
    if (has_file(&listener->name, &file))
        listener->file = file;
    return listen(listener->fd, BACKLOG) < 0 ? -errno : 0;
}

int mesh_listener_open(struct mesh_listener *listener, const char *name)
{
    socklen_t size = 0;
    int err;

    *listener = (struct mesh_listener){.fd = -1};
    err = address(name, &listener->name, &size);
    if (err < 0)
        return err;
    listener->fd = open_unix();
    if (listener->fd < 0)
        return listener->fd;
    err = start(listener, size);
    if (err < 0)
        mesh_listener_close(listener);
    return err;
}

void mesh_listener_close(struct mesh_listener *listener)
{
    struct stat now;

    if (listener->fd < 0)
        return;
    if (has_file(&listener->name, &now) && now.st_ino == listener->file.st_ino &&
        now.st_dev == listener->file.st_dev)
        unlink(listener->name.sun_path);
    close(listener->fd);
    listener->fd = -1;
}

int mesh_listener_connect(const char *name)
{
    struct sockaddr_un to;
    socklen_t size = 0;
    int err = address(name, &to, &size);
    int fd = err < 0 ? err : open_unix();

    if (fd < 0)
        return fd;
    if (connect(fd, (struct sockaddr *)&to, size) == 0)
        return fd;
    err = -errno;
    close(fd);
    return err;
}
