#include "base/clock.h"
#include "base/log.h"
#include "mesh/server_state.h"

#include <stddef.h>
#include <stdlib.h>

#define DEAF_MS 5000 /* a handler that runs on so long after a cancel is reported */

/* ---- sending --------------------------------------------------------------------------------- */

void server_send(struct mesh_server *server, struct mesh_source *source,
                 struct mesh_message *message)
{
    if (source->peer)
        mesh_peers_send(server->peers, source->peer, message);
    else
        mesh_link_send(source->link, message);
}

void server_reject(struct mesh_server *server, struct mesh_source *source, enum status_code code,
                   const char *why)
{
    if (source->peer)
        mesh_peers_reject(server->peers, source->peer, code, why);
    else
        mesh_link_reject(source->link, code, why);
}

void server_refuse(struct mesh_server *server, struct mesh_source *source, uint64_t id,
                   const struct status *status)
{
    struct mesh_message message;

    if (mesh_call_build_end(id, status, true, &message) == 0)
        server_send(server, source, &message);
}

/* ---- the table ------------------------------------------------------------------------------- */

static struct mesh_call **bucket_of(struct mesh_server *server, const struct mesh_source *source,
                                    uint64_t id)
{
    uint64_t bits = (id ^ ((uint64_t)source->id << 20)) * 0x9e3779b97f4a7c15u;

    return &server->calls[bits >> 52];
}

struct mesh_call *server_call_find(struct mesh_server *server, const struct mesh_source *source,
                                   uint64_t id)
{
    struct mesh_call *call = *bucket_of(server, source, id);

    while (call && (call->id != id || call->source != source))
        call = call->next_in_bucket;
    return call;
}

void server_call_list(struct mesh_server *server, struct mesh_call *call,
                      struct mesh_source *source)
{
    struct mesh_call **bucket = bucket_of(server, source, call->id);

    call->next_in_bucket = *bucket;
    *bucket = call;
    call->source = source;
    call->next_of_source = source->calls;
    if (source->calls)
        source->calls->previous_of_source = call;
    source->calls = call;
    if (!server_call_is_watch(call)) {
        server->n_listed++;
        source->n_calls++;
    }
}

static void unlist(struct mesh_server *server, struct mesh_call *call)
{
    struct mesh_source *source = call->source;
    struct mesh_call **at;

    if (!source)
        return;
    at = bucket_of(server, source, call->id);
    while (*at != call)
        at = &(*at)->next_in_bucket;
    *at = call->next_in_bucket;
    call->source = NULL;
    if (!server_call_is_watch(call)) {
        server->n_listed--;
        source->n_calls--;
    }
    if (call->previous_of_source)
        call->previous_of_source->next_of_source = call->next_of_source;
    else
        source->calls = call->next_of_source;
    if (call->next_of_source)
        call->next_of_source->previous_of_source = call->previous_of_source;
}

/* ---- the end of a call ----------------------------------------------------------------------- */

void server_call_forget(struct mesh_server *server, struct mesh_call *call)
{
    unlist(server, call);
    mesh_timer_cancel(&server->timers, &call->timer);
    if (server_call_is_watch(call)) {
        server->n_watches--;
    } else {
        server->n_calls--;
        atomic_store_explicit(&server->n_busy, server->n_calls, memory_order_relaxed);
        server->queued_bytes -= call->open_bytes;
        metric_set(server->running, server->n_calls);
    }
    mesh_call_release(call);
}

/* End a call that no handler runs. */
static void end_unstarted(struct mesh_server *server, struct mesh_call *call)
{
    bool unprocessed = !server_call_is_watch(call);
    struct mesh_message message;

    if (call->source && mesh_call_build_end(call->id, &call->status, unprocessed, &message) == 0)
        server_send(server, call->source, &message);
    metric_add(call->method->method->started, 1); /* no interceptor has seen it */
    mesh_method_ended(call->method->method, call->status.code, call->arrived_ns, clock_now_ns());
    server_call_forget(server, call);
}

void server_call_cancel(struct mesh_server *server, struct mesh_call *call, enum status_code code,
                        const char *why)
{
    if (mesh_call_cancel(call, code, why)) {
        end_unstarted(server, call);
        return;
    }
    if (call->stop_asked_ns > 0)
        return;
    call->stop_asked_ns = server->now_ns;
    mesh_timer_set(&server->timers, &call->timer, server->now_ns + DEAF_MS * NS_PER_MS);
}

/* The slot is lost for as long as it runs: say so, it is the service's bug. */
static void report_deaf(struct mesh_server *server, const struct mesh_call *call)
{
    metric_add(server->deaf, 1);
    log_warn("the handler of %s still runs %d ms after its call was cancelled: it must look at "
             "mesh_call_cancelled()",
             call->method->method->path, DEAF_MS);
}

void server_cancel_late_calls(struct mesh_server *server, int64_t now_ns)
{
    struct mesh_timer *timer;

    while ((timer = mesh_timers_pop(&server->timers, now_ns)) != NULL) {
        struct mesh_call *call =
            (struct mesh_call *)((char *)timer - offsetof(struct mesh_call, timer));

        if (call->stop_asked_ns > 0)
            report_deaf(server, call);
        else
            server_call_cancel(server, call, STATUS_DEADLINE_EXCEEDED, "the deadline has passed");
    }
}

static void lose(struct mesh_server *server, struct mesh_call *call)
{
    mesh_call_hold(call);
    unlist(server, call);
    server_call_cancel(server, call, STATUS_CANCELLED, "the caller's session is gone");
    mesh_call_release(call);
}

void server_calls_lose(struct mesh_server *server, struct mesh_source *source)
{
    while (source->calls)
        lose(server, source->calls);
}

/* ---- posts ----------------------------------------------------------------------------------- */

static void send_credit(struct mesh_server *server, struct mesh_call *call)
{
    struct mesh_header header = {.kind = MESH_CREDIT, .call_id = call->id};
    struct mesh_message message;

    pthread_mutex_lock(&call->lock);
    call->credit_posted = false;
    header.credit_messages = call->flow.in.limit_messages;
    header.credit_bytes = call->flow.in.limit_bytes;
    pthread_mutex_unlock(&call->lock);
    if (call->source && mesh_message_build(&header, NULL, NULL, false, &message) == 0)
        server_send(server, call->source, &message);
}

static void send_or_drop(struct mesh_server *server, struct mesh_call *call,
                         struct mesh_message *message)
{
    pthread_mutex_lock(&call->lock);
    if (zmq_msg_size(&message->first) > 0 && mesh_flow_left(&call->flow, message))
        pthread_cond_broadcast(&call->changed);
    pthread_mutex_unlock(&call->lock);
    if (call->source)
        server_send(server, call->source, message);
    else
        mesh_message_close(message);
}

static void handle_post(struct mesh_server *server, struct call_post *note)
{
    struct mesh_call *call = note->call;
    struct mesh_message *end;

    switch ((enum call_post_kind)note->post.kind) {
    case POST_FRAME:
        send_or_drop(server, call, &((struct call_send *)note)->message);
        free(note);
        break;
    case POST_MORE_CREDIT:
        send_credit(server, call);
        break;
    case POST_END:
        end = &call->end_post.message;
        if (zmq_msg_size(&end->first) == 0 && call->source)
            server_reject(server, call->source, STATUS_RESOURCE_EXHAUSTED,
                          "no memory to end a call");
        send_or_drop(server, call, end);
        server_call_forget(server, call);
        break;
    case POST_DRAIN:
        server_begin_drain(server);
        return;
    }
    mesh_call_release(call);
}

bool server_calls_post(struct mesh_server *server)
{
    struct mesh_post *post = mesh_mailbox_take(&server->mailbox);
    bool any = post != NULL;

    while (post) {
        struct mesh_post *next = post->next;

        handle_post(server, (struct call_post *)post);
        post = next;
    }
    return any;
}
