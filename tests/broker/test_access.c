/* Who may do what at a broker that knows its peers by their keys: the core's rules, and the folders they come from. */
#include "broker/access.h"

#include "base/log.h"
#include "base/status.h"
#include "tests/broker/puppet.h"

#include <errno.h>
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define CALLER 100
#define OTHER 101
#define WORKER 200

static struct puppet puppet;

static const struct mesh_identity ALICE = {.number = 7, .name = "alice"};
static const struct mesh_identity BOB = {.number = 9, .name = "bob", .services = "test.*"};
static const struct mesh_identity CAROL = {.number = 300, .name = "carol", .services = "other.X"};

static int setup(void **state)
{
    (void)state;
    log_init("test", LOG_ERROR, LOG_FORMAT_TEXT);
    puppet_init(&puppet, (struct broker_core_options){0});
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    puppet_fini(&puppet);
    return 0;
}

static void caller(uint64_t peer, const struct mesh_identity *who)
{
    puppet.who[BROKER_FRONT] = who;
    puppet_caller(&puppet, peer);
}

static void open_call(uint64_t peer, const struct mesh_identity *who, uint64_t id)
{
    puppet.who[BROKER_FRONT] = who;
    puppet_open(&puppet, peer, id, (struct opening){0});
}

static const struct seen *at_worker(uint8_t kind)
{
    return puppet_take(&puppet, BROKER_BACK, WORKER, kind);
}

static void told(const struct mesh_identity *who)
{
    const struct seen *seen = at_worker(MESH_IDENTITY);
    Dragoman__Mesh__V1__Identity *said =
        dragoman__mesh__v1__identity__unpack(NULL, seen->body_size, seen->body);

    assert_non_null(said);
    assert_int_equal(said->number, who->number);
    assert_string_equal(said->name, who->name);
    dragoman__mesh__v1__identity__free_unpacked(said, NULL);
}

/* ---- identities ------------------------------------------------------------------------------ */

static void a_worker_is_told_each_name_once_before_it_matters(void **state)
{
    (void)state;
    puppet_worker(&puppet, WORKER, "test.Echo", 8, NULL);
    caller(CALLER, &ALICE);
    caller(OTHER, &BOB);
    open_call(CALLER, &ALICE, 1);
    told(&ALICE);
    assert_int_equal(at_worker(MESH_OPEN)->header.status, ALICE.number);
    open_call(CALLER, &ALICE, 2);
    assert_int_equal(at_worker(MESH_OPEN)->header.status, ALICE.number);
    open_call(OTHER, &BOB, 1);
    told(&BOB);
    assert_int_equal(at_worker(MESH_OPEN)->header.status, BOB.number);
    puppet_silence(&puppet, BROKER_BACK, WORKER);
}

static void who_has_no_key_is_nobody(void **state)
{
    (void)state;
    puppet_worker(&puppet, WORKER, "test.Echo", 8, NULL);
    caller(CALLER, NULL);
    open_call(CALLER, NULL, 1);
    assert_int_equal(at_worker(MESH_OPEN)->header.status, 0);
}

/* Another key's messages with this routing id do the session neither good nor harm. */
static void a_routing_id_is_no_proof(void **state)
{
    (void)state;
    puppet_worker(&puppet, WORKER, "test.Echo", 8, NULL);
    caller(CALLER, &ALICE);
    open_call(CALLER, &BOB, 1);
    assert_int_equal(puppet_take(&puppet, BROKER_FRONT, CALLER, MESH_ERROR)->header.status,
                     STATUS_UNAUTHENTICATED);
    puppet_silence(&puppet, BROKER_BACK, WORKER);
    open_call(CALLER, &ALICE, 1);
    told(&ALICE);
    at_worker(MESH_OPEN);
}

static void who_is_let_in_no_longer_gets_no_session(void **state)
{
    struct mesh_header header = {.kind = MESH_HELLO};
    Dragoman__Mesh__V1__Hello hello = DRAGOMAN__MESH__V1__HELLO__INIT;
    struct broker_message *message = broker_core_blank(puppet.core);
    struct mesh_frame frame;
    struct broker_event event = {.kind = BROKER_MESSAGE,
                                 .side = BROKER_FRONT,
                                 .peer = CALLER,
                                 .message = message,
                                 .frame = &frame,
                                 .identity = 7}; /* and nobody has that number */

    (void)state;
    hello.version_min = hello.version_max = MESH_VERSION;
    assert_int_equal(mesh_message_build(&header, NULL, &hello.base, false, &message->message), 0);
    message->filled = true;
    mesh_message_frame(&message->message, &frame);
    puppet_step(&puppet, &event);
    assert_int_equal(puppet_take(&puppet, BROKER_FRONT, CALLER, MESH_ERROR)->header.status,
                     STATUS_UNAUTHENTICATED);
}

/* ---- services -------------------------------------------------------------------------------- */

static void denied(uint64_t peer, uint64_t id)
{
    const struct seen *end = puppet_take(&puppet, BROKER_FRONT, peer, MESH_END);

    assert_int_equal(end->header.call_id, id);
    assert_int_equal(end->header.status, STATUS_PERMISSION_DENIED);
    assert_true(end->header.flags & MESH_UNPROCESSED);
}

static void a_caller_is_held_to_its_certificate(void **state)
{
    const struct opening tenant = {.tenant = "acme"}; /* routed by Meta, not by the hash */
    const struct opening unknown = {.service = "test.None", .flags = MESH_WAIT, .timeout_ms = 100};

    (void)state;
    puppet_worker(&puppet, WORKER, "test.Echo", 8, NULL);
    caller(CALLER, &CAROL);
    open_call(CALLER, &CAROL, 1);
    denied(CALLER, 1);
    puppet_open(&puppet, CALLER, 2, tenant);
    denied(CALLER, 2);
    puppet_open(&puppet, CALLER, 3, unknown);
    denied(CALLER, 3);
    puppet_open(&puppet, CALLER, 4, (struct opening){.service = "other.X"});
    assert_int_equal(puppet_take(&puppet, BROKER_FRONT, CALLER, MESH_END)->header.status,
                     STATUS_UNIMPLEMENTED); /* allowed; nobody offers it */
    puppet_silence(&puppet, BROKER_BACK, WORKER);
}

/* Health and Reflection are for everyone, the directory is a service like any. */
static void the_brokers_own_services(void **state)
{
    (void)state;
    caller(CALLER, &CAROL);
    puppet_open(&puppet, CALLER, 1,
                (struct opening){.service = "dragoman.mesh.v1.Health", .method = "Check"});
    assert_int_not_equal(puppet_take(&puppet, BROKER_FRONT, CALLER, MESH_END)->header.status,
                         STATUS_PERMISSION_DENIED);
    puppet_open(&puppet, CALLER, 2,
                (struct opening){.service = "dragoman.mesh.v1.Reflection", .method = "List"});
    assert_int_not_equal(puppet_take(&puppet, BROKER_FRONT, CALLER, MESH_END)->header.status,
                         STATUS_PERMISSION_DENIED);
    puppet_open(&puppet, CALLER, 3,
                (struct opening){.service = "dragoman.mesh.v1.Directory", .method = "List"});
    denied(CALLER, 3);
}

static void a_worker_is_held_to_its_certificate(void **state)
{
    Dragoman__Mesh__V1__Register offer = DRAGOMAN__MESH__V1__REGISTER__INIT;
    Dragoman__Mesh__V1__ServiceOffer mine = DRAGOMAN__MESH__V1__SERVICE_OFFER__INIT;
    Dragoman__Mesh__V1__ServiceOffer foreign = DRAGOMAN__MESH__V1__SERVICE_OFFER__INIT;
    Dragoman__Mesh__V1__ServiceOffer *offers[] = {&mine, &foreign};
    struct mesh_header header = {.kind = MESH_REGISTER};
    const struct seen *error = NULL;

    (void)state;
    puppet.who[BROKER_BACK] = &BOB;
    puppet_hello(&puppet, BROKER_BACK, WORKER);
    puppet_take(&puppet, BROKER_BACK, WORKER, MESH_WELCOME);
    mine.name = (char *)"test.Echo";
    foreign.name = (char *)"testament.Echo";
    offer.services = offers;
    offer.n_services = 2;
    offer.capacity = 1;
    puppet_send(&puppet, BROKER_BACK, WORKER, &header, NULL, &offer.base);
    error = puppet_take(&puppet, BROKER_BACK, WORKER, MESH_ERROR);
    assert_int_equal(error->header.status, STATUS_PERMISSION_DENIED);
    puppet_worker(&puppet, WORKER, "test.Echo", 1, NULL); /* which it may */
}

/* ---- withdrawal ------------------------------------------------------------------------------ */

static void withdraw(enum broker_side side, uint16_t number)
{
    const struct broker_event event = {.kind = BROKER_REVOKED, .side = side, .identity = number};

    puppet_step(&puppet, &event);
}

static void a_withdrawn_callers_calls_end(void **state)
{
    (void)state;
    puppet_worker(&puppet, WORKER, "test.Echo", 8, NULL);
    caller(CALLER, &ALICE);
    caller(OTHER, &BOB);
    open_call(CALLER, &ALICE, 1);
    told(&ALICE);
    at_worker(MESH_OPEN);
    withdraw(BROKER_BACK, ALICE.number); /* a worker's number: somebody else */
    puppet_silence(&puppet, BROKER_FRONT, CALLER);
    withdraw(BROKER_FRONT, ALICE.number);
    assert_int_equal(puppet_take(&puppet, BROKER_FRONT, CALLER, MESH_ERROR)->header.status,
                     STATUS_UNAUTHENTICATED);
    at_worker(MESH_CANCEL);
    puppet_silence(&puppet, BROKER_FRONT, OTHER);
}

static void a_withdrawn_workers_calls_end(void **state)
{
    (void)state;
    puppet.who[BROKER_BACK] = &BOB;
    puppet_worker(&puppet, WORKER, "test.Echo", 8, NULL);
    caller(CALLER, &ALICE);
    open_call(CALLER, &ALICE, 1);
    withdraw(BROKER_BACK, BOB.number);
    assert_int_equal(puppet_take(&puppet, BROKER_FRONT, CALLER, MESH_END)->header.status,
                     STATUS_UNAVAILABLE);
}

/* ---- the folders ----------------------------------------------------------------------------- */

struct folders {
    char root[64];
    struct access_flags flags;
    char key[128], callers[128], workers[128];
};

static void write_certificate(const char *folder, const char *name)
{
    struct mesh_certificate made;
    char path[256], why[MESH_WHY_MAX];

    assert_int_equal(mesh_certificate_create(name, NULL, &made, why), 0);
    snprintf(path, sizeof(path), "%s/%s.cert", folder, name);
    assert_int_equal(mesh_certificate_save(&made, path, false, why), 0);
}

static int setup_folders(void **state)
{
    struct folders *folders = calloc(1, sizeof(*folders));
    struct mesh_certificate broker;
    char why[MESH_WHY_MAX];

    log_init("test", LOG_ERROR, LOG_FORMAT_TEXT);
    snprintf(folders->root, sizeof(folders->root), "/tmp/dragoman-access-XXXXXX");
    assert_non_null(mkdtemp(folders->root));
    snprintf(folders->key, sizeof(folders->key), "%s/broker.key", folders->root);
    snprintf(folders->callers, sizeof(folders->callers), "%s/callers", folders->root);
    snprintf(folders->workers, sizeof(folders->workers), "%s/workers", folders->root);
    assert_int_equal(mkdir(folders->callers, 0700), 0);
    assert_int_equal(mkdir(folders->workers, 0700), 0);
    assert_int_equal(mesh_certificate_create("broker", NULL, &broker, why), 0);
    assert_int_equal(mesh_certificate_save(&broker, folders->key, true, why), 0);
    folders->flags = (struct access_flags){
        .key = folders->key, .callers = folders->callers, .workers = folders->workers};
    *state = folders;
    return 0;
}

static int remove_one(const char *path, const struct stat *stat, int type, struct FTW *where)
{
    (void)stat, (void)type, (void)where;
    return remove(path);
}

static int teardown_folders(void **state)
{
    struct folders *folders = *state;

    nftw(folders->root, remove_one, 8, FTW_DEPTH | FTW_PHYS);
    free(folders);
    return 0;
}

static void reload_tells_what_has_gone(void **state)
{
    struct folders *folders = *state;
    struct mesh_security security = {0};
    struct access access;
    uint16_t *gone = NULL;
    char path[256];

    write_certificate(folders->callers, "a");
    write_certificate(folders->callers, "b");
    write_certificate(folders->workers, "w");
    assert_int_equal(access_load(&folders->flags, true, &security), 1);
    access_init(&access, &security);
    assert_int_equal(access_reload(&access), 0);
    assert_false(atomic_load(&access.news));
    snprintf(path, sizeof(path), "%s/a.cert", folders->callers);
    unlink(path);
    write_certificate(folders->callers, "c");
    assert_int_equal(access_reload(&access), 0);
    snprintf(path, sizeof(path), "%s/b.cert", folders->callers);
    unlink(path);
    assert_int_equal(access_reload(&access), 0); /* before anyone has listened */
    assert_true(atomic_load(&access.news));
    assert_int_equal(access_take(&access, BROKER_BACK, &gone), 0);
    free(gone);
    assert_int_equal(access_take(&access, BROKER_FRONT, &gone), 2);
    assert_int_not_equal(gone[0], gone[1]);
    assert_true(gone[0] >= 1 && gone[0] <= 2 && gone[1] >= 1 && gone[1] <= 2);
    free(gone);
    assert_false(atomic_load(&access.news));
    access_fini(&access);
    mesh_security_wipe(&security);
}

static void half_of_the_flags_is_refused(void **state)
{
    struct folders *folders = *state;
    struct mesh_security security = {0};
    struct access_flags none = {0}, flags = folders->flags;

    assert_int_equal(access_load(&none, true, &security), 0);
    flags.workers = NULL;
    assert_int_equal(access_load(&flags, true, &security), -EINVAL);
    assert_int_equal(access_load(&flags, false, &security), 1); /* where no workers connect */
    mesh_security_wipe(&security);
    flags.callers = "";
    assert_int_equal(access_load(&flags, false, &security), -EINVAL);
    flags = folders->flags;
    flags.key = NULL;
    assert_int_equal(access_load(&flags, true, &security), -EINVAL);
    flags = folders->flags;
    flags.callers = "/nowhere";
    assert_int_equal(access_load(&flags, true, &security), -EINVAL);
    assert_int_equal(chmod(folders->key, 0640), 0);
    assert_int_equal(access_load(&folders->flags, true, &security), -EINVAL);
}

static void others_come_by_key_or_by_leave(void **state)
{
    static const char *const near[] = {"tcp://127.0.0.1:1", "tcp://localhost:1", "tcp://[::1]:1",
                                       "ipc:///a", "inproc://a"};
    static const char *const far[] = {"tcp://0.0.0.0:1", "tcp://*:1", "tcp://10.0.0.1:1",
                                      "tcp://[::]:1", "tcp://localhost.example:1"};
    const struct access_flags none = {0}, key = {.key = "a.key"}, plain = {.plain = true};

    (void)state;
    for (size_t i = 0; i < 5; i++) {
        assert_int_equal(access_allows(&none, near[i]), 0);
        assert_int_equal(access_allows(&none, far[i]), -EINVAL);
        assert_int_equal(access_allows(&key, far[i]), 0);
        assert_int_equal(access_allows(&plain, far[i]), 0);
    }
}

#define CORE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
#define FOLDERS(name) cmocka_unit_test_setup_teardown(name, setup_folders, teardown_folders)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(others_come_by_key_or_by_leave),
        CORE(a_worker_is_told_each_name_once_before_it_matters),
        CORE(who_has_no_key_is_nobody),
        CORE(a_routing_id_is_no_proof),
        CORE(who_is_let_in_no_longer_gets_no_session),
        CORE(a_caller_is_held_to_its_certificate),
        CORE(the_brokers_own_services),
        CORE(a_worker_is_held_to_its_certificate),
        CORE(a_withdrawn_callers_calls_end),
        CORE(a_withdrawn_workers_calls_end),
        FOLDERS(reload_tells_what_has_gone),
        FOLDERS(half_of_the_flags_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
