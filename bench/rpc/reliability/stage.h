/*
 * stage.h - what the cases of bench/rpc/reliability stand on: processes, a channel, a load
 *
 * Whatever cannot be had ends the program with a word: a benchmark without its broker measures nothing.
 */
#ifndef BENCH_RPC_RELIABILITY_STAGE_H
#define BENCH_RPC_RELIABILITY_STAGE_H

#include "bench/rpc/echo.pb-c.h"
#include "mesh/channel.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

typedef Dragoman__Bench__V1__Payload payload_message;
extern const ProtobufCServiceDescriptor *const ECHO;

/** Where dragoman-broker and echo_server lie, from main; and a folder for sockets. */
extern const char *stage_build;
extern char stage_folder[];

/** Make the folder, and remove it with what lies there. */
void stage_open(void);
void stage_close(void);

_Noreturn void stage_die(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void stage_sleep_ms(int64_t ms);

/** Start a broker at ipc://FOLDER/NAME.front and .back, with more flags ended by NULL, and wait until it listens. */
pid_t stage_broker(const char *name, const char *const *flags);
/** Start a worker for endpoints (a list is fine) and return at once. */
pid_t stage_worker(const char *endpoints, int capacity);
/** Send a signal; with SIGKILL or SIGTERM wait until it is gone. */
void stage_signal(pid_t pid, int signal);
/** "ipc://FOLDER/NAME.front" for side "front"; kept until the program ends. */
const char *stage_endpoint(const char *name, const char *side);
/** Resident memory, bytes. */
size_t stage_resident(pid_t pid);

/** A channel over which a first call has been answered. */
struct mesh_channel *stage_channel(const char *endpoints);

/** Values, sorted by the first question. */
struct samples {
    double *values;
    size_t n, room;
    bool sorted;
};
void samples_add(struct samples *samples, double value);
double samples_quantile(struct samples *samples, double q); /* 0 without any */
void samples_free(struct samples *samples);

#endif
