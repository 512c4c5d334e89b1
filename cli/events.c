#include "cli/events.h"

#include "cli/client.h"

#include <errno.h>
#include <string.h>

#define LINE_BYTES_MAX ((size_t)64 << 20) /* one event may hold a chunk of audio in base64 */

void events_init(struct events *events, int (*take)(void *arg, const char *type, json_t *event),
                 void *arg)
{
    buffer_init(&events->line, LINE_BYTES_MAX);
    events->take = take;
    events->arg = arg;
}

void events_fini(struct events *events)
{
    buffer_fini(&events->line);
}

static int take_error(const json_t *event)
{
    const char *text =
        json_string_value(json_object_get(json_object_get(event, "error"), "message"));

    client_fail("%s", text ? text : "the gateway ends in the middle without a reason");
    return -EREMOTEIO;
}

static int take_line(struct events *events, const char *line, size_t size)
{
    static const char DATA[] = "data: ";
    const size_t skip = sizeof(DATA) - 1;
    json_t *event;
    const char *type;
    int err = 0;

    if (size <= skip || memcmp(line, DATA, skip) != 0)
        return 0;
    event = json_loadb(line + skip, size - skip, 0, NULL);
    type = json_string_value(json_object_get(event, "type"));
    if (type)
        err =
            strcmp(type, "error") == 0 ? take_error(event) : events->take(events->arg, type, event);
    json_decref(event);
    return err;
}

int events_receive(void *arg, const char *data, size_t size)
{
    struct events *events = arg;
    int err = buffer_append(&events->line, data, size);
    const uint8_t *end;

    while (err == 0 && (end = memchr(events->line.data, '\n', events->line.size))) {
        size_t n = (size_t)(end - events->line.data);

        err = take_line(events, (const char *)events->line.data, n);
        buffer_consume(&events->line, n + 1);
    }
    return err;
}
