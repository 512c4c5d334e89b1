/*
 * events.h - a gateway's answer as server-sent events: lines "data: {JSON}", one event each
 */
#ifndef CLI_EVENTS_H
#define CLI_EVENTS_H

#include "base/buffer.h"

#include <jansson.h>

struct events {
    struct buffer line; /* received so far of the next one */
    /** One event with its "type"; an "error" is told and ends it all before. @return 0, or -errno to
     *  stop */
    int (*take)(void *arg, const char *type, json_t *event);
    void *arg;
};

void events_init(struct events *events, int (*take)(void *arg, const char *type, json_t *event),
                 void *arg);
void events_fini(struct events *events);

/** For client_request.receive, with the struct events as its argument. */
int events_receive(void *events, const char *data, size_t size);

#endif
