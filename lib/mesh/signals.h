/*
 * signals.h - SIGTERM and SIGINT of a service process, in whatever it is doing
 *
 * A thread of its own takes them, so that one also stops a process that loads a model or waits for
 * handlers. While it loads there is nothing to lose: the first signal ends it. While it serves the first
 * asks for a drain; one more, or a stop that takes too long, ends it at once.
 */
#ifndef MESH_SIGNALS_H
#define MESH_SIGNALS_H

#include <stdint.h>

enum mesh_phase { MESH_LOADING, MESH_SERVING, MESH_DRAINING, MESH_STOPPING };

#define MESH_STOPPING_MS 5000 /* for handlers that were told to stop, after the grace time */

struct mesh_signals;

/** Block the signals in this thread, and so in those that it starts, and take them from now on. One a
 *  process. @return 0; -ENOMEM, -EAGAIN */
int mesh_signals_create(struct mesh_signals **out);
void mesh_signals_destroy(struct mesh_signals **signals);

/** Say what the process does now. */
void mesh_signals_phase(struct mesh_signals *signals, enum mesh_phase phase);
/** Wait for the first signal. @return its number; 0 when none has come in time */
int mesh_signals_wait(struct mesh_signals *signals, int64_t ms);

#endif
