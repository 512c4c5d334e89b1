#include "tests/mesh/interop/world.h"

#include "base/clock.h"
#include "broker/broker.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zmq.h>

const struct transport transports[] = {
    {.name = "direct-inproc", .front = "inproc://interop"},
    {.name = "direct-ipc", .front = "ipc://%s/front"},
    {.name = "direct-tcp", .front = "tcp://127.0.0.1:*"},
    {.name = "direct-tcp-curve", .front = "tcp://127.0.0.1:*", .curve = true},
    {.name = "broker-inproc", .front = "inproc://front", .back = "inproc://back"},
    {.name = "broker-ipc", .front = "ipc://%s/front", .back = "ipc://%s/back"},
    {.name = "broker-tcp", .front = "tcp://127.0.0.1:*", .back = "tcp://127.0.0.1:*"},
    {.name = "broker-tcp-curve",
     .front = "tcp://127.0.0.1:*",
     .back = "tcp://127.0.0.1:*",
     .curve = true},
    {.name = "broker-tcp-sliced",
     .front = "tcp://127.0.0.1:*",
     .back = "tcp://127.0.0.1:*",
     .proxied = true},
    {.name = NULL},
};

/* NULL without CURVE. */
static const struct mesh_security *security(const struct world *world,
                                            const struct mesh_security *whose)
{
    return world->transport->curve ? whose : NULL;
}

/* ---- the broker, and the proxies before it --------------------------------------------------- */

static void name_endpoint(const struct world *world, const char *format, char out[128])
{
    const char *folder = strstr(format, "%s");

    if (folder)
        snprintf(out, 128, "%.*s%s%s", (int)(folder - format), format, world->folder, folder + 2);
    else
        snprintf(out, 128, "%s", format);
}

/* @return the endpoint that leads through a proxy to `endpoint` */
static void put_proxy(struct proxy **proxy, const char *endpoint, char out[128])
{
    const char *port = strrchr(endpoint, ':') + 1;
    struct proxy_options options = {
        .target = (uint16_t)strtol(port, NULL, 10), .delay_ms = 5, .slice = true};

    if (!*proxy)
        assert_int_equal(proxy_start(&options, proxy), 0);
    snprintf(out, 128, "tcp://127.0.0.1:%u", proxy_port(*proxy));
}

void world_start_broker(struct world *world)
{
    const char *front[] = {world->broker_front, NULL};
    const char *back[] = {world->broker_back, NULL};
    struct broker_options options = {.front = front,
                                     .back = back,
                                     .context = world->context,
                                     .security = security(world, &world->keys.broker),
                                     .heartbeat_ms = world->heartbeat_ms,
                                     .max_session_age_ms = world->max_session_age_ms};

    for (int tries = 0; broker_start(&options, &world->broker) < 0; tries++) {
        assert_true(tries < 100); /* the one before is still closing its listener */
        rig_sleep_ms(10);
    }
    snprintf(world->broker_front, 128, "%s", broker_front_endpoint(world->broker, 0));
    snprintf(world->broker_back, 128, "%s", broker_back_endpoint(world->broker, 0));
    snprintf(world->front, 128, "%s", world->broker_front);
    snprintf(world->back, 128, "%s", world->broker_back);
    if (world->transport->proxied) {
        put_proxy(&world->front_proxy, world->broker_front, world->front);
        put_proxy(&world->back_proxy, world->broker_back, world->back);
    }
}

void world_stop_broker(struct world *world, int64_t grace_ms)
{
    broker_stop(&world->broker, grace_ms);
}

/* ---- interceptors of workers ----------------------------------------------------------------- */

static bool inject_fault(void *context, void **state, struct mesh_intercepted *call,
                         struct status *refusal)
{
    const char *wanted = mesh_metadata_get(call->metadata, WORLD_FAULT_KEY);

    (void)context, (void)state;
    if (wanted)
        status_set(refusal, (enum status_code)strtol(wanted, NULL, 10), "as was asked for");
    return !wanted;
}

/* Who shows none need not; who shows one must show the right one. */
static bool check_token(void *context, void **state, struct mesh_intercepted *call,
                        struct status *refusal)
{
    const char *token = mesh_metadata_get(call->metadata, WORLD_TOKEN_KEY);
    bool good = !token || strcmp(token, "Bearer " WORLD_TOKEN) == 0;

    (void)context, (void)state;
    if (!good)
        status_set(refusal, STATUS_UNAUTHENTICATED, "this token is not good here");
    return good;
}

static const struct mesh_interceptor faults = {.name = "faults", .start = inject_fault};
static const struct mesh_interceptor tokens = {.name = "tokens", .start = check_token};
static const struct mesh_interceptor *const interceptors[] = {&tokens, &faults};

/* ---- workers, callers ------------------------------------------------------------------------ */

static void add_labels(struct mesh_server *server, const char *labels)
{
    char copy[256];
    char *rest = NULL;

    snprintf(copy, sizeof(copy), "%s", labels ? labels : "");
    for (char *label = strtok_r(copy, ",", &rest); label; label = strtok_r(NULL, ",", &rest)) {
        char *value = strchr(label, '=');

        *value++ = '\0';
        assert_int_equal(mesh_server_add_label(server, label, value), 0);
    }
}

void world_start(struct world *world, int i, const struct world_worker *wanted)
{
    struct interop_worker *worker = &world->workers[i];
    struct mesh_server_options options = {
        .endpoint = world->broker ? world->back : world->front,
        .bind = !world->broker,
        .name = "interop",
        .context = world->context,
        .capacity = wanted && wanted->capacity ? wanted->capacity : WORLD_CAPACITY,
        .security = security(world, world->broker ? &world->keys.worker : &world->keys.broker),
        .heartbeat_ms = world->heartbeat_ms,
        .interceptors = interceptors,
        .n_interceptors = 2,
    };

    interop_worker_init(worker, (uint32_t)i + 1);
    assert_int_equal(mesh_server_create(&options, &worker->server), 0);
    assert_int_equal(interop_worker_add(worker, worker->server), 0);
    assert_int_equal(echo_add(worker->server), 0); /* for raw callers */
    add_labels(worker->server, wanted ? wanted->labels : NULL);
    assert_int_equal(mesh_server_start(worker->server), 0);
    if (!world->broker)
        snprintf(world->front, 128, "%s", mesh_server_endpoint(worker->server));
    rig_wait(mesh_server_ready(worker->server));
}

void world_stop(struct world *world, int i)
{
    mesh_server_destroy(&world->workers[i].server);
}

struct mesh_channel *world_channel(const struct world *world,
                                   const struct mesh_channel_options *wanted)
{
    struct mesh_channel_options options = wanted ? *wanted : (struct mesh_channel_options){0};
    struct mesh_channel *channel = NULL;

    if (!options.endpoint)
        options.endpoint = world->front;
    options.name = "interop";
    options.context = world->context;
    options.heartbeat_ms = world->heartbeat_ms;
    if (!options.security)
        options.security = security(world, &world->keys.caller);
    assert_int_equal(mesh_channel_create(&options, &channel), 0);
    return channel;
}

struct raw *world_raw(struct world *world)
{
    raw_open_secure(&world->raw, world->context, world->front,
                    security(world, &world->keys.caller));
    return &world->raw;
}

struct raw *world_raw_caller(struct world *world)
{
    raw_greet(world_raw(world), 60000); /* nobody drives its heartbeat */
    return &world->raw;
}

static void raw_register(struct raw *raw)
{
    Dragoman__Mesh__V1__Register message = DRAGOMAN__MESH__V1__REGISTER__INIT;
    Dragoman__Mesh__V1__ServiceOffer offer = DRAGOMAN__MESH__V1__SERVICE_OFFER__INIT;
    Dragoman__Mesh__V1__ServiceOffer *offers[] = {&offer};
    char *methods[] = {(char *)"Unary", (char *)"Collect", (char *)"Expand", (char *)"Chat"};

    offer.name = (char *)"dragoman.test.v1.Echo";
    offer.methods = methods;
    offer.n_methods = 4;
    message.services = offers;
    message.n_services = 1;
    message.capacity = 4;
    raw_send(raw, &(struct mesh_header){.kind = MESH_REGISTER}, NULL, &message.base);
    raw_expect(raw, MESH_REGISTERED);
}

struct raw *world_raw_answerer(struct world *world)
{
    struct raw *raw = &world->raw;

    if (world->broker) {
        raw_open_secure(raw, world->context, world->back, security(world, &world->keys.worker));
        raw_greet(raw, 0);
        raw_register(raw);
    } else {
        raw_open(raw, world->context, MESH_ROUTER, world->front);
        raw_greet(raw, world->heartbeat_ms);
    }
    return raw;
}

int world_count(const struct world *world, int n, int fewer)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    n = n / 3 > fewer ? n / 3 : fewer;
#endif
    return world->transport->proxied ? fewer : n;
}

/* ---- a world --------------------------------------------------------------------------------- */

int world_setup(void **state)
{
    const struct world_plan *plan = *state;
    struct world *world = calloc(1, sizeof(*world));

    world->transport = plan->transport;
    world->heartbeat_ms = plan->flags & BEATS ? 100 : 0;
    world->max_session_age_ms = plan->flags & AGES ? WORLD_AGE_MS : 0;
    world->context = zmq_ctx_new();
    snprintf(world->folder, sizeof(world->folder), P_tmpdir "/dragoman-interop-XXXXXX");
    if (!mkdtemp(world->folder))
        return -1;
    echo_reset();
    if (world->transport->curve)
        keys_create(&world->keys);
    name_endpoint(world, world->transport->front, world->front);
    if (world->transport->back) {
        name_endpoint(world, world->transport->front, world->broker_front);
        name_endpoint(world, world->transport->back, world->broker_back);
        world_start_broker(world);
    }
    if (!(plan->flags & BARE))
        world_start(world, 0, NULL);
    world->channel = world_channel(world, NULL);
    *state = world;
    return 0;
}

int world_teardown(void **state)
{
    struct world *world = *state;
    char command[128];

    if (world->raw.socket)
        raw_close(&world->raw);
    mesh_channel_destroy(&world->channel);
    for (int i = 0; i < WORLD_WORKERS; i++)
        mesh_server_destroy(&world->workers[i].server);
    broker_stop(&world->broker, 0);
    proxy_stop(&world->front_proxy);
    proxy_stop(&world->back_proxy);
    if (world->transport->curve)
        keys_destroy(&world->keys);
    zmq_ctx_term(world->context);
    snprintf(command, sizeof(command), "rm -rf '%s'", world->folder);
    free(world);
    return system(command);
}

int count_fds(void)
{
    int n = 0;

    for (int fd = 0; fd < 1024; fd++)
        n += fcntl(fd, F_GETFD) >= 0;
    return n;
}
