/*
 * heartbeat.h - whether the peer of a session is alive, and when to say that we are
 *
 * Any frame is a sign of life. The connecting side PINGs when for one interval it has sent nothing or
 * heard nothing; three intervals of silence are death. A loop that stood still itself (stopped,
 * swapped out) starts the peer's time anew: its silence was ours.
 */
#ifndef MESH_HEARTBEAT_H
#define MESH_HEARTBEAT_H

#include <stdbool.h>
#include <stdint.h>

#define MESH_HEARTBEAT_MS_DEFAULT 1000u
#define MESH_HEARTBEAT_MS_MIN 10u
#define MESH_HEARTBEAT_MS_MAX 60000u
#define MESH_HEARTBEAT_MISSES 3

struct mesh_heartbeat {
    int64_t interval_ns;
    int64_t sent_at, heard_at, ping_at, looked_at; /* ns */
};

/** The interval of a session: the smaller wish (0: none), within the bounds. */
uint32_t mesh_heartbeat_agree(uint32_t one_ms, uint32_t other_ms);

void mesh_heartbeat_init(struct mesh_heartbeat *beat, uint32_t interval_ms, int64_t now_ns);
void mesh_heartbeat_sent(struct mesh_heartbeat *beat, int64_t now_ns);
void mesh_heartbeat_heard(struct mesh_heartbeat *beat, int64_t now_ns);

/** Look at the clock, at least once an interval. @return false when the peer is dead */
bool mesh_heartbeat_alive(struct mesh_heartbeat *beat, int64_t now_ns);
/** Whether to send a PING now; counts as having done so. */
bool mesh_heartbeat_ping_due(struct mesh_heartbeat *beat, int64_t now_ns);
/** When to look next: an interval later, or when the peer's time is over. */
int64_t mesh_heartbeat_look_ns(const struct mesh_heartbeat *beat);
/** When there is something to do, a look or a PING. */
int64_t mesh_heartbeat_next_ns(const struct mesh_heartbeat *beat);

#endif
