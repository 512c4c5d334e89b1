/*
 * listener.h - Unix sockets by their names: listening at one, connecting to one
 *
 * A name is a path, or "@name": an abstract one, which is no file.
 */
#ifndef MESH_LISTENER_H
#define MESH_LISTENER_H

#include <sys/stat.h>
#include <sys/un.h>

struct mesh_listener {
    int fd; /* non-blocking; owned */
    struct sockaddr_un name;
    struct stat file; /* its own, not one that took its place */
};

/**
 * Listen. A socket's file that is there is taken away: whether somebody listens at it is for the caller to ask before.
 *
 * @return 0; -EADDRINUSE: there is another file, or somebody has the abstract name; -EINVAL, -ENAMETOOLONG; -errno
 */
int mesh_listener_open(struct mesh_listener *listener, const char *name);
/** Stop, and take the file away unless it is another's by now. */
void mesh_listener_close(struct mesh_listener *listener);

/** @return a descriptor, non-blocking, the caller's; -ECONNREFUSED, -ENOENT: nobody listens; -EAGAIN: too many
 *  wait to be accepted; -EINVAL, -ENAMETOOLONG; -errno */
int mesh_listener_connect(const char *name);

#endif
