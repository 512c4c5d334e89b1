#include "mesh/poller.h"

#include "mesh/stream.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/queue.h>
#include <unistd.h>

struct watched {
    struct mesh_poller *poller;
    struct mesh_stream *stream;
    void *arg;
    LIST_ENTRY(watched) all;
    TAILQ_ENTRY(watched) ready;
    bool is_ready;
};

struct mesh_poller {
    int fd;
    LIST_HEAD(, watched) all; /* the loop's thread's */
    pthread_mutex_t lock;     /* what follows */
    TAILQ_HEAD(, watched) ready;
};

int mesh_poller_create(struct mesh_poller **out)
{
    struct mesh_poller *poller = calloc(1, sizeof(*poller));

    if (!poller)
        return -ENOMEM;
    poller->fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (poller->fd < 0) {
        int err = -errno;

        free(poller);
        return err;
    }
    pthread_mutex_init(&poller->lock, NULL);
    LIST_INIT(&poller->all);
    TAILQ_INIT(&poller->ready);
    *out = poller;
    return 0;
}

void mesh_poller_destroy(struct mesh_poller **poller)
{
    struct mesh_poller *self = *poller;

    if (!self)
        return;
    while (!LIST_EMPTY(&self->all))
        mesh_poller_remove(self, LIST_FIRST(&self->all)->stream);
    pthread_mutex_destroy(&self->lock);
    close(self->fd);
    free(self);
    *poller = NULL;
}

int mesh_poller_fd(const struct mesh_poller *poller)
{
    return poller->fd;
}

/* Under the lock: the descriptor is readable while the list has something. A counter that is 0 takes a 1,
 * and one that is 1 gives it back. */
static void show(struct mesh_poller *poller, bool something)
{
    uint64_t count = 1;
    ssize_t done = something ? write(poller->fd, &count, sizeof(count))
                             : read(poller->fd, &count, sizeof(count));

    assert(done == sizeof(count));
    (void)done;
}

static void report(void *arg)
{
    struct watched *watched = arg;
    struct mesh_poller *poller = watched->poller;

    pthread_mutex_lock(&poller->lock);
    if (!watched->is_ready) {
        if (TAILQ_EMPTY(&poller->ready))
            show(poller, true);
        watched->is_ready = true;
        TAILQ_INSERT_TAIL(&poller->ready, watched, ready);
    }
    pthread_mutex_unlock(&poller->lock);
}

/* Under the lock. */
static void take_out(struct mesh_poller *poller, struct watched *watched)
{
    if (!watched->is_ready)
        return;
    watched->is_ready = false;
    TAILQ_REMOVE(&poller->ready, watched, ready);
    if (TAILQ_EMPTY(&poller->ready))
        show(poller, false);
}

int mesh_poller_add(struct mesh_poller *poller, struct mesh_stream *stream, void *arg)
{
    struct watched *watched = calloc(1, sizeof(*watched));

    if (!watched)
        return -ENOMEM;
    *watched = (struct watched){.poller = poller, .stream = stream, .arg = arg};
    LIST_INSERT_HEAD(&poller->all, watched, all);
    mesh_stream_on_event(stream, report, watched);
    report(watched);
    return 0;
}

void mesh_poller_remove(struct mesh_poller *poller, struct mesh_stream *stream)
{
    struct watched *watched;

    if (stream->notify != report) /* set by this thread, as is notify_arg */
        return;
    watched = stream->notify_arg;
    mesh_stream_on_event(stream, NULL, NULL); /* none runs after this */
    pthread_mutex_lock(&poller->lock);
    take_out(poller, watched);
    pthread_mutex_unlock(&poller->lock);
    LIST_REMOVE(watched, all);
    free(watched);
}

void *mesh_poller_next(struct mesh_poller *poller)
{
    struct watched *watched;

    pthread_mutex_lock(&poller->lock);
    watched = TAILQ_FIRST(&poller->ready);
    if (watched)
        take_out(poller, watched);
    pthread_mutex_unlock(&poller->lock);
    return watched ? watched->arg : NULL;
}
