/*
 * measure.h - what every echo client of bench/rpc does alike: flags, payloads, latencies, CPU time, one line of JSON
 *
 * C with a C++ face: clients in C and C++ use it; peers/go/measure.go is its twin.
 */
#ifndef BENCH_RPC_MEASURE_H
#define BENCH_RPC_MEASURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define MEASURE_PIDS 8

/* What to do, from flags. */
struct measure_plan {
    const char *endpoint;
    const char *mode;  /* of the client's own */
    const char *extra; /* a file of certificates, or what the client says */
    size_t size;       /* bytes of payload */
    int in_flight;
    double seconds, warmup_s;
    int pids[MEASURE_PIDS]; /* whose CPU time is asked for besides the client's own */
    const char *pid_names[MEASURE_PIDS];
    int n_pids;
};

/** Read --endpoint, --mode, --extra, --size, --in-flight, --seconds, --warmup, --pid NAME=PID. Exits 2 when wrong. */
void measure_parse(int argc, char **argv, struct measure_plan *plan);

int64_t measure_now_ns(void);

/** Write a call's number at both ends of a payload of any size, over a pattern that measure_fill() laid. */
void measure_fill(uint8_t *payload, size_t size);
void measure_stamp(uint8_t *payload, size_t size, uint64_t number);
/** Whether a reply is that payload: size and stamps always, all bytes of every 256th. Exits 1 when it is not. */
void measure_check(const uint8_t *sent, size_t size, const uint8_t *got, size_t got_size,
                   uint64_t number);

struct measure;

/** Begins with the warm-up. One thread at a time may use it. */
struct measure *measure_begin(const struct measure_plan *plan);
/** A call that began then has ended now. @return false: the time is over, begin no more */
bool measure_call(struct measure *measure, int64_t begun_ns, int64_t now_ns);
/** Print the line: {"calls":…,"calls_per_s":…,"p50_us":…,"p99_us":…,"max_us":…,"gap_us":…,"cpu_us":{"client":…}}; times of a call, but
 *  gap_us: the longest time without an answer. */
void measure_print(struct measure *measure);

#ifdef __cplusplus
}
#endif

#endif
