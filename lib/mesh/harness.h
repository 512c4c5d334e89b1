/*
 * harness.h - what every service process does: flags, signals, health, warm-up, metrics, drain
 *
 * A service gives a table of its own options and two functions; the harness does the rest. The same
 * service runs as a process (mesh_harness_main) or as threads of another (mesh_harness_start).
 */
#ifndef MESH_HARNESS_H
#define MESH_HARNESS_H

#include "base/config.h"
#include "mesh/server.h"

struct mesh_harness_service {
    const char *program; /* "dragoman-asr" */
    const char *name;    /* "asr": of the worker, in logs and the directory */
    const char *summary;
    const struct config_option *options; /* the service's own, ended by a NULL name; may be NULL */
    uint32_t default_capacity;

    /**
     * Load the model, then add services and labels. Runs while /readyz says "loading".
     * @param config  as given to mesh_harness_start(); NULL from mesh_harness_main() (the option
     *                table filled the service's own static configuration)
     * @param state   the service, for stop()
     * @return 0; -errno after a log_error() that names what is wrong and the remedy
     */
    int (*start)(const void *config, struct mesh_server *server, void **state);
    void (*stop)(void *state);
};

/** A whole main(): returns the exit status, 0 after a drain, 1 for failure, 2 for bad usage. */
int mesh_harness_main(const struct mesh_harness_service *service, int argc, char **argv);

struct mesh_harness; /* a service running in this process */

struct mesh_harness_options {
    const char *broker;                   /* endpoint of the broker's worker side */
    void *context;                        /* shared ZeroMQ context; NULL: own */
    uint32_t capacity;                    /* 0: the service's default */
    const struct mesh_security *security; /* borrowed until stop; NULL: no CURVE */
};

/** Start a service on threads of this process; returns when its model is loaded and it registers. */
int mesh_harness_start(const struct mesh_harness_service *service, const void *config,
                       const struct mesh_harness_options *options, struct mesh_harness **out);
bool mesh_harness_ready(const struct mesh_harness *harness);
/** Drain within grace_ms, then stop. */
void mesh_harness_stop(struct mesh_harness **harness, int64_t grace_ms);

#endif
