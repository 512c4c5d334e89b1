#include "mesh/flow.h"

#include "base/clock.h"
#include "base/metrics.h"

#include <errno.h>
#include <stdlib.h>

void mesh_flow_init(struct mesh_flow *flow)
{
    *flow = (struct mesh_flow){0};
    mesh_credit_in_init(&flow->in);
    flow->last = &flow->first;
}

void mesh_flow_drop_unread(struct mesh_flow *flow)
{
    while (flow->first) {
        struct mesh_message *message = flow->first;

        flow->first = message->next;
        mesh_message_close(message);
        free(message);
    }
    flow->last = &flow->first;
}

void mesh_flow_fini(struct mesh_flow *flow)
{
    mesh_flow_drop_unread(flow);
}

/* What rides on OPEN and END needs no credit. */
static bool is_charged(const struct mesh_header *header)
{
    return header->kind == MESH_DATA;
}

/* An END of another's making, or of a failed call, may not know how many messages there were. */
static bool seq_is_loose(const struct mesh_header *header)
{
    return header->kind == MESH_END && header->status != STATUS_OK && header->seq == 0;
}

static enum status_code check(const struct mesh_flow *flow, const struct mesh_header *header,
                              size_t max, const char **why)
{
    bool has_message = (header->flags & MESH_MESSAGE) != 0;

    if (flow->ended_in) {
        *why = "a frame after the end of its direction";
        return STATUS_INTERNAL;
    }
    if (!seq_is_loose(header) && header->seq != flow->seq_in + (has_message ? 1 : 0)) {
        *why = "messages are missing, repeated or out of order";
        return STATUS_INTERNAL;
    }
    if (has_message && header->body_bytes > max) {
        *why = "a message is larger than this end takes";
        return STATUS_RESOURCE_EXHAUSTED;
    }
    return STATUS_OK;
}

static int keep(struct mesh_flow *flow, struct mesh_message *message)
{
    struct mesh_message *kept = malloc(sizeof(*kept));

    if (!kept)
        return -ENOMEM;
    mesh_message_move(kept, message);
    *flow->last = kept;
    flow->last = &kept->next;
    return 0;
}

enum status_code mesh_flow_receive(struct mesh_flow *flow, struct mesh_message *message,
                                   const struct mesh_frame *frame, size_t max, const char **why)
{
    const struct mesh_header *header = &frame->header;
    enum status_code code = check(flow, header, max, why);

    if (code != STATUS_OK)
        return code;
    flow->ended_in = header->kind == MESH_END || (header->flags & MESH_END_SEND);
    if (!(header->flags & MESH_MESSAGE))
        return STATUS_OK;
    if (is_charged(header) && !mesh_credit_received(&flow->in, header->body_bytes)) {
        *why = "a message was sent without credit";
        return STATUS_INTERNAL;
    }
    flow->seq_in++;
    if (keep(flow, message) < 0) {
        *why = "no memory for a message";
        return STATUS_RESOURCE_EXHAUSTED;
    }
    return STATUS_OK;
}

struct mesh_message *mesh_flow_take(struct mesh_flow *flow, bool *tell)
{
    struct mesh_message *message = flow->first;
    struct mesh_header header;

    *tell = false;
    if (!message)
        return NULL;
    flow->first = message->next;
    if (!flow->first)
        flow->last = &flow->first;
    mesh_header_read(zmq_msg_data(&message->first), &header);
    if (is_charged(&header) && !flow->ended_in)
        *tell = mesh_credit_taken(&flow->in, header.body_bytes, !flow->first, clock_now_ns());
    return message;
}

bool mesh_flow_may_send(const struct mesh_flow *flow)
{
    return flow->unsent < MESH_WINDOW_MESSAGES_MAX && flow->unsent_bytes < MESH_WINDOW_BYTES_MAX &&
           mesh_credit_may_send(&flow->out);
}

bool mesh_flow_left(struct mesh_flow *flow, const struct mesh_message *message)
{
    bool waited = !mesh_flow_may_send(flow);
    struct mesh_header header;

    mesh_header_read(zmq_msg_data((zmq_msg_t *)&message->first), &header);
    if (!is_charged(&header) || !(header.flags & MESH_MESSAGE))
        return false;
    flow->unsent--;
    flow->unsent_bytes -= header.body_bytes;
    return waited && mesh_flow_may_send(flow);
}

void mesh_flow_stalled(void)
{
    metric_add(metrics_counter("mesh_credit_stalled_total",
                               "Times that a writer had to wait for its reader", NULL),
               1);
}

uint32_t mesh_flow_sent(struct mesh_flow *flow, bool charged, size_t bytes)
{
    if (charged) {
        mesh_credit_sent(&flow->out, bytes);
        flow->unsent++;
        flow->unsent_bytes += bytes;
    }
    return ++flow->seq_out;
}

int mesh_flow_unpack(struct mesh_message *message, const ProtobufCMessageDescriptor *type,
                     ProtobufCMessage **out)
{
    struct mesh_frame frame;

    mesh_message_frame(message, &frame);
    return mesh_frame_unpack(&frame, type, UINT32_MAX, out); /* its size was checked on arrival */
}
