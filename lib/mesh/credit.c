#include "mesh/credit.h"

bool mesh_credit_may_send(const struct mesh_credit_out *credit)
{
    return credit->messages < credit->limit_messages && credit->bytes < credit->limit_bytes;
}

void mesh_credit_sent(struct mesh_credit_out *credit, uint64_t bytes)
{
    credit->messages++;
    credit->bytes += bytes;
}

bool mesh_credit_raise(struct mesh_credit_out *credit, uint32_t messages, uint64_t bytes)
{
    bool had = mesh_credit_may_send(credit);

    if (messages > credit->limit_messages)
        credit->limit_messages = messages;
    if (bytes > credit->limit_bytes)
        credit->limit_bytes = bytes;
    return !had && mesh_credit_may_send(credit);
}

void mesh_credit_in_init(struct mesh_credit_in *credit)
{
    *credit = (struct mesh_credit_in){
        .limit_messages = MESH_WINDOW_MESSAGES,
        .window_messages = MESH_WINDOW_MESSAGES,
        .limit_bytes = MESH_WINDOW_BYTES,
        .window_bytes = MESH_WINDOW_BYTES,
    };
}

bool mesh_credit_received(struct mesh_credit_in *credit, uint64_t bytes)
{
    if (credit->received_messages >= credit->limit_messages ||
        credit->received_bytes >= credit->limit_bytes)
        return false;
    credit->received_messages++;
    credit->received_bytes += bytes;
    return true;
}

/* Saturating, so that no window ever wraps a limit around. */
static uint32_t limit_of(uint32_t taken, uint32_t window)
{
    return taken > UINT32_MAX - window ? UINT32_MAX : taken + window;
}

static void grow(struct mesh_credit_in *credit)
{
    if (credit->window_messages < MESH_WINDOW_MESSAGES_MAX)
        credit->window_messages *= 2;
    if (credit->window_bytes < MESH_WINDOW_BYTES_MAX)
        credit->window_bytes *= 2;
}

bool mesh_credit_taken(struct mesh_credit_in *credit, uint64_t bytes, bool starving, int64_t now_ns)
{
    uint32_t messages;
    uint64_t limit;

    credit->taken_messages++;
    credit->taken_bytes += bytes;
    messages = limit_of(credit->taken_messages, credit->window_messages);
    limit = credit->taken_bytes + credit->window_bytes;
    /* Half a window at a time: a CREDIT costs as much as a message. */
    if (messages - credit->limit_messages < credit->window_messages / 2 &&
        limit - credit->limit_bytes < credit->window_bytes / 2)
        return false;
    if (starving && now_ns - credit->granted_at < MESH_WINDOW_FAST_NS)
        grow(credit);
    credit->granted_at = now_ns;
    credit->limit_messages = limit_of(credit->taken_messages, credit->window_messages);
    credit->limit_bytes = credit->taken_bytes + credit->window_bytes;
    return true;
}
