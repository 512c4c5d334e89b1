/*
 * poller.h - streams in an event loop: one descriptor for any number of them
 *
 * For programs that have a loop of their own (epoll, poll, libwebsockets, ...) and no thread to wait in a call:
 *
 *     mesh_poller_create(&poller);
 *     epoll_ctl(..., EPOLL_CTL_ADD, mesh_poller_fd(poller), &(struct epoll_event){.events = EPOLLIN});
 *     mesh_stream_open(channel, ..., &stream);
 *     mesh_poller_add(poller, stream, session);
 *
 * and whenever the descriptor is readable
 *
 *     while ((session = mesh_poller_next(poller)) != NULL)
 *         read and write session->stream with a wait of 0, until -EAGAIN
 *
 * A stream is reported once for all that has happened to it since it was last taken. One thread uses a poller;
 * its streams may belong to several channels.
 */
#ifndef MESH_POLLER_H
#define MESH_POLLER_H

#include "mesh/channel.h"

struct mesh_poller;

/** @return 0; -EMFILE and the like; -ENOMEM */
int mesh_poller_create(struct mesh_poller **out);
/** After its streams were removed. */
void mesh_poller_destroy(struct mesh_poller **poller);

/** Readable while mesh_poller_next() has something; level-triggered. Not to be read, nor closed. */
int mesh_poller_fd(const struct mesh_poller *poller);

/** Watch a stream, in place of a function set with mesh_stream_on_event(). It is reported at once, as something may have
 *  happened already. @param arg  what mesh_poller_next() gives; not NULL. @return 0; -ENOMEM */
int mesh_poller_add(struct mesh_poller *poller, struct mesh_stream *stream, void *arg);
/** Before the stream is destroyed. */
void mesh_poller_remove(struct mesh_poller *poller, struct mesh_stream *stream);

/** The next stream that may go on. @return its arg; NULL: none */
void *mesh_poller_next(struct mesh_poller *poller);

#endif
