/*
 * rig.h - a channel, an echo server, and what is between them, for tests that run over each transport
 */
#ifndef TESTS_MESH_RIG_H
#define TESTS_MESH_RIG_H

#include "mesh/channel.h"
#include "tests/mesh/echo.h"
#include "tests/mesh/keys.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define RIG_CAPACITY 8

enum rig_transport { RIG_INPROC, RIG_IPC, RIG_TCP, RIG_CURVE }; /* the last: tcp with CURVE */

struct broker;

struct rig {
    enum rig_transport transport;
    void *context;
    struct keys keys;      /* of RIG_CURVE */
    struct broker *broker; /* NULL: the channel is connected to the server itself */
    struct mesh_server *server;
    struct mesh_channel *channel;
    char endpoint[128];        /* the channel's */
    char worker_endpoint[128]; /* the server's, with a broker */
};

typedef Dragoman__Test__V1__EchoRequest echo_request;
typedef Dragoman__Test__V1__EchoResponse echo_response;

#define ECHO (&dragoman__test__v1__echo__descriptor)

/** Run every test over every transport, to the server directly and through a broker. @return cmocka's
 *  count of failures */
int rig_run(const char *name, const struct CMUnitTest *tests, size_t n_tests);

/** Start and stop its server, where it was before. */
void rig_start_server(struct rig *rig);

/** What a channel of its own needs where there is CURVE; NULL elsewhere. */
const struct mesh_security *rig_security(const struct rig *rig);
/** A channel of its own to the same place. */
struct mesh_channel *rig_channel(const struct rig *rig);

/** Wait until a condition on counters holds; fails the test after 5 s. */
#define rig_wait(condition)                                                                        \
    do {                                                                                           \
        int ms_left = 5000;                                                                        \
        while (!(condition) && ms_left-- > 0)                                                      \
            rig_sleep_ms(1);                                                                       \
        if (!(condition))                                                                          \
            fail_msg("never true: %s", #condition);                                                \
    } while (0)

void rig_sleep_ms(int ms);

/** Unary call of Echo.Unary; the status, and the response when it is OK (to be freed). */
struct status rig_unary(struct mesh_channel *channel, const echo_request *request,
                        const struct mesh_call_options *options, echo_response **response);

/** Read to the end. @return messages read; *status is how it ended */
size_t rig_read_all(struct mesh_stream *stream, struct status *status);

/** Open a stream of Echo. */
struct mesh_stream *rig_stream_open(const struct rig *rig, const char *method,
                                    const struct mesh_call_options *options);
/** Read to the end, which must be this one. */
void rig_expect_end(struct mesh_stream *stream, enum status_code code);

/** So many empty calls that belong to no thread, that many of them at once: all end well. */
void rig_burst(const struct rig *rig, int calls, int at_once);

size_t rig_rss_bytes(void);

/* What else a process may come to hold while a test watches its memory. A sanitizer keeps what is freed. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define RIG_RSS_SLACK ((size_t)1 << 30)
#else
#define RIG_RSS_SLACK ((size_t)8 << 20)
#endif

#endif
