#include "mesh/heartbeat.h"

#define NS_PER_MS 1000000

uint32_t mesh_heartbeat_agree(uint32_t one_ms, uint32_t other_ms)
{
    uint32_t ms = one_ms;

    if (ms == 0 || (other_ms != 0 && other_ms < ms))
        ms = other_ms;
    if (ms == 0)
        ms = MESH_HEARTBEAT_MS_DEFAULT;
    if (ms < MESH_HEARTBEAT_MS_MIN)
        return MESH_HEARTBEAT_MS_MIN;
    return ms < MESH_HEARTBEAT_MS_MAX ? ms : MESH_HEARTBEAT_MS_MAX;
}

void mesh_heartbeat_init(struct mesh_heartbeat *beat, uint32_t interval_ms, int64_t now_ns)
{
    *beat = (struct mesh_heartbeat){
        .interval_ns = (int64_t)interval_ms * NS_PER_MS,
        .sent_at = now_ns,
        .heard_at = now_ns,
        .ping_at = now_ns,
        .looked_at = now_ns,
    };
}

void mesh_heartbeat_sent(struct mesh_heartbeat *beat, int64_t now_ns)
{
    beat->sent_at = now_ns;
}

void mesh_heartbeat_heard(struct mesh_heartbeat *beat, int64_t now_ns)
{
    beat->heard_at = now_ns;
}

bool mesh_heartbeat_alive(struct mesh_heartbeat *beat, int64_t now_ns)
{
    bool stalled = now_ns - beat->looked_at > 2 * beat->interval_ns;

    beat->looked_at = now_ns;
    if (stalled)
        beat->heard_at = now_ns;
    return now_ns - beat->heard_at < MESH_HEARTBEAT_MISSES * beat->interval_ns;
}

/* Silent, or hearing nothing: but one PING an interval. */
static int64_t ping_due_ns(const struct mesh_heartbeat *beat)
{
    int64_t quiet = beat->sent_at < beat->heard_at ? beat->sent_at : beat->heard_at;

    return (quiet > beat->ping_at ? quiet : beat->ping_at) + beat->interval_ns;
}

bool mesh_heartbeat_ping_due(struct mesh_heartbeat *beat, int64_t now_ns)
{
    if (now_ns < ping_due_ns(beat))
        return false;
    beat->ping_at = now_ns;
    return true;
}

int64_t mesh_heartbeat_look_ns(const struct mesh_heartbeat *beat)
{
    int64_t look = beat->looked_at + beat->interval_ns;
    int64_t dead = beat->heard_at + MESH_HEARTBEAT_MISSES * beat->interval_ns;

    return look < dead ? look : dead;
}

int64_t mesh_heartbeat_next_ns(const struct mesh_heartbeat *beat)
{
    int64_t look = mesh_heartbeat_look_ns(beat);
    int64_t ping = ping_due_ns(beat);

    return look < ping ? look : ping;
}
