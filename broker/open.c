#include "broker/state.h"
#include "broker/stats.h"

#include <errno.h>
#include <string.h>

/* "/package.Service/Method" to the service's part of it. */
static bool path_service(const char *path, const char **name, size_t *size)
{
    const char *slash = path[0] == '/' ? strchr(path + 1, '/') : NULL;

    if (!slash)
        return false;
    *name = path + 1;
    *size = (size_t)(slash - path - 1);
    return true;
}

static bool refuse(struct broker_core *core, struct session *session, uint64_t call_id,
                   struct verdict verdict)
{
    core_send_end(core, session, call_id, &verdict);
    core->n_started++;
    core->n_ended++;
    return false;
}

/* Whether the caller's certificate allows it. */
static bool permitted(struct broker_core *core, struct session *session, uint64_t call_id,
                      const char *service, size_t size)
{
    if (identity_may_call(session, service, size))
        return true;
    return refuse(core, session, call_id,
                  verdict_make(STATUS_PERMISSION_DENIED, true,
                               "the certificate '%s' does not allow calls of %.*s",
                               session->identity->name, (int)size, service));
}

/* What a call can be refused for before anything else is looked at. */
static bool acceptable(struct broker_core *core, struct session *session,
                       const struct mesh_header *header)
{
    if (core->draining)
        return refuse(core, session, header->call_id,
                      verdict_make(STATUS_UNAVAILABLE, true, "the broker is shutting down"));
    if (header->timeout_ns < 0)
        return refuse(core, session, header->call_id,
                      verdict_make(STATUS_DEADLINE_EXCEEDED, true,
                                   "the deadline had passed before the broker got the call"));
    if (header->body_bytes > core->options.max_message_bytes)
        return refuse(core, session, header->call_id,
                      verdict_make(STATUS_RESOURCE_EXHAUSTED, true,
                                   "a message of %u bytes: the broker takes at most %zu",
                                   header->body_bytes, core->options.max_message_bytes));
    return true;
}

/* The service that a path names; waiting callers may be before its first worker. */
static struct service *service_named(struct broker_core *core, struct session *session,
                                     const struct mesh_header *header, const char *path)
{
    struct service *service = NULL;
    const char *name = NULL;
    size_t size = 0;
    int err = 0;

    if (!path_service(path, &name, &size)) {
        refuse(core, session, header->call_id,
               verdict_make(STATUS_UNIMPLEMENTED, true, "'%s' is no method's name", path));
        return NULL;
    }
    service = registry_find(&core->registry, name, size);
    if (!service && core_waits(core, header))
        err = registry_expect(&core->registry, name, size, &service);
    if (err < 0)
        refuse(core, session, header->call_id,
               verdict_make(err == -EINVAL ? STATUS_UNIMPLEMENTED : STATUS_RESOURCE_EXHAUSTED, true,
                            "cannot wait for %.*s: %s", (int)size, name,
                            err == -EINVAL ? "no service has such a name" : "too many are known"));
    else if (!service)
        refuse(core, session, header->call_id,
               verdict_make(STATUS_UNIMPLEMENTED, true, "no worker has ever offered %.*s",
                            (int)size, name));
    return service;
}

static void open_call(struct broker_core *core, struct session *session, struct service *service,
                      struct broker_message *message, const struct mesh_header *header,
                      const mesh_meta *meta, struct selector **selector, int64_t now_ns)
{
    struct call *call = call_create(core, session, header, now_ns);
    struct pool *pool = NULL;
    struct verdict verdict;
    int err = -ENOMEM;

    if (!service->metrics)
        service->metrics = stats_service(service->name);
    if (call) {
        call->service = service;
        call->entry.tenant = queue_tenant_get(&service->queue, meta ? meta->tenant : "");
        if (meta && meta->affinity[0] != '\0')
            call->affinity = table_key(meta->affinity, strlen(meta->affinity)) | 1;
    }
    if (call && call->entry.tenant)
        err = pool_get(service, selector, &pool);
    if (err == 0) {
        router_route(core, call, message, pool, now_ns);
        return;
    }
    broker_core_recycle(core, message);
    verdict = verdict_make(STATUS_RESOURCE_EXHAUSTED, true,
                           err == -ENOSPC ? "calls of too many different selectors wait"
                                          : "the broker is out of memory");
    if (call) {
        call_end(core, call, &verdict, now_ns);
        return;
    }
    refuse(core, session, header->call_id, verdict);
    registry_forget(&core->registry, service);
}

/* An OPEN whose Meta has to be read: a selector, a tenant, a method not seen before. */
static bool open_by_meta(struct broker_core *core, struct session *session,
                         struct broker_message *message, struct mesh_frame *frame, int64_t now_ns)
{
    struct selector *selector = NULL;
    struct service *service = NULL;
    const char *name = NULL;
    mesh_meta *meta = NULL;
    size_t size = 0;
    bool taken = false;

    if (mesh_meta_unpack(frame, &meta) < 0)
        return refuse(core, session, frame->header.call_id,
                      verdict_make(STATUS_INTERNAL, true, "the call's Meta does not parse"));
    if (path_service(meta->method, &name, &size) &&
        !permitted(core, session, frame->header.call_id, name, size))
        goto done;
    if (name && local_serves(name, size)) {
        local_open(core, session, frame, meta->method, now_ns);
        goto done;
    }
    if (selector_create(meta->selector, meta->n_selector, &selector) < 0) {
        refuse(core, session, frame->header.call_id,
               verdict_make(STATUS_INTERNAL, true, "the call's selector has a key without values"));
        goto done;
    }
    service = service_named(core, session, &frame->header, meta->method);
    if (!service)
        goto done;
    open_call(core, session, service, message, &frame->header, meta, &selector, now_ns);
    taken = true;
done:
    selector_destroy(&selector);
    dragoman__mesh__v1__meta__free_unpacked(meta, NULL);
    return taken;
}

bool router_open(struct broker_core *core, struct session *session, struct broker_message *message,
                 struct mesh_frame *frame, int64_t now_ns)
{
    struct selector *any = NULL;
    struct service *service = NULL;

    if (frame->header.call_id <= session->last_id) {
        core_session_error(core, session, STATUS_INVALID_ARGUMENT,
                           "a call id that is not greater than those before");
        return false;
    }
    session->last_id = frame->header.call_id;
    if (!acceptable(core, session, &frame->header))
        return false;
    if (!(frame->header.flags & MESH_ROUTE))
        service = registry_find_method(&core->registry, frame->header.method_hash);
    if (!service)
        return open_by_meta(core, session, message, frame, now_ns);
    if (session->identity &&
        !permitted(core, session, frame->header.call_id, service->name, strlen(service->name)))
        return false;
    open_call(core, session, service, message, &frame->header, NULL, &any, now_ns);
    return true;
}
