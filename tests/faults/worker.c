/* A worker of Ledger: writes down each execution; SIGTERM drains it. */
#include "base/config.h"
#include "base/log.h"
#include "mesh/server.h"
#include "tests/faults/journal.h"
#include "tests/faults/ledger.pb-c.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

typedef Dragoman__Faults__V1__Entry entry;
typedef Dragoman__Faults__V1__Receipt receipt;
typedef Dragoman__Faults__V1__Receipt_Closure receipt_closure;

static struct {
    const char *broker, *journal;
    int64_t capacity;
    bool sent;
} config = {.broker = "tcp://127.0.0.1:5602", .journal = "/dev/null", .capacity = 4};

static const struct config_option OPTIONS[] = {
    {"broker", CONFIG_STRING, &config.broker, "ENDPOINT", "where to register", NULL, 0, 0},
    {"journal", CONFIG_STRING, &config.journal, "FILE", "where executions are written", NULL, 0, 0},
    {"capacity", CONFIG_INT, &config.capacity, "N", "calls at once", NULL, 1, 1000},
    {"sent", CONFIG_BOOL, &config.sent, NULL, "write each message of Pour down, too", NULL, 0, 0},
    {NULL, 0, NULL, NULL, NULL, NULL, 0, 0},
};

static atomic_int running;

/* ---- executions ------------------------------------------------------------------------------ */

static void enter(const char *kind, uint64_t call)
{
    journal("start call=%llu kind=%s worker=%d running=%d capacity=%d wall=%lld",
            (unsigned long long)call, kind, (int)getpid(), atomic_fetch_add(&running, 1) + 1,
            (int)config.capacity, journal_wall_ns());
}

static void leave(uint64_t call, void *handle)
{
    atomic_fetch_sub(&running, 1);
    journal("stop call=%llu worker=%d cancelled=%d", (unsigned long long)call, (int)getpid(),
            mesh_call_cancelled(handle));
}

static void work(uint32_t us, const void *handle)
{
    const struct timespec step = {.tv_nsec = 1000000};

    for (; us >= 1000 && !mesh_call_cancelled(handle); us -= 1000)
        nanosleep(&step, NULL);
}

static void answer(const entry *request, uint32_t seq, uint64_t *chain, receipt_closure reply,
                   void *handle)
{
    receipt response = DRAGOMAN__FAULTS__V1__RECEIPT__INIT;

    response.call = request->call;
    response.seq = seq;
    response.proof = ledger_proof(request->secret, seq);
    response.payload.len = request->bytes;
    response.payload.data = calloc(1, request->bytes + 1);
    if (chain) {
        *chain = ledger_chain(*chain, response.proof, request->bytes);
        response.chain = *chain;
    }
    reply(&response, handle);
    free(response.payload.data);
}

static void do_enter(Dragoman__Faults__V1__Ledger_Service *self, const entry *request,
                     receipt_closure reply, void *handle)
{
    (void)self;
    enter("enter", request->call);
    work(request->work_us, handle);
    answer(request, 0, NULL, reply, handle);
    leave(request->call, handle);
}

static void do_note(Dragoman__Faults__V1__Ledger_Service *self, const entry *request,
                    receipt_closure reply, void *handle)
{
    (void)self;
    answer(request, 0, NULL, reply, handle);
}

static void do_converse(Dragoman__Faults__V1__Ledger_Service *self, const entry *unused,
                        receipt_closure reply, void *handle)
{
    ProtobufCMessage *message = NULL;
    uint64_t call = 0, chain = 0;
    uint32_t seq = 0;

    (void)self, (void)unused;
    while (mesh_call_read(handle, &message, -1) == 0) {
        const entry *request = (const entry *)message;

        if (seq++ == 0)
            enter("converse", call = request->call);
        if (request->seq != seq || request->call != call)
            journal("bad call=%llu why=order-at-worker", (unsigned long long)call);
        work(request->work_us, handle);
        answer(request, seq, &chain, reply, handle);
        protobuf_c_message_free_unpacked(message, NULL);
    }
    if (seq > 0)
        leave(call, handle);
}

static void do_pour(Dragoman__Faults__V1__Ledger_Service *self, const entry *request,
                    receipt_closure reply, void *handle)
{
    uint64_t chain = 0;

    (void)self;
    enter("pour", request->call);
    for (uint32_t seq = 1; seq <= request->count && !mesh_call_cancelled(handle); seq++) {
        answer(request, seq, &chain, reply, handle);
        if (config.sent)
            journal("sent call=%llu n=%u bytes=%u", (unsigned long long)request->call, seq,
                    request->bytes);
        work(request->work_us, handle);
    }
    leave(request->call, handle);
}

/* ---- the process ----------------------------------------------------------------------------- */

static int serve(const sigset_t *signals)
{
    static const enum mesh_kind kinds[] = {MESH_UNARY, MESH_UNARY_QUICK, MESH_BIDI_STREAMING,
                                           MESH_SERVER_STREAMING};
    static Dragoman__Faults__V1__Ledger_Service service = DRAGOMAN__FAULTS__V1__LEDGER__INIT(do_);
    struct mesh_server_options options = {
        .endpoint = config.broker, .name = "ledger", .capacity = (uint32_t)config.capacity};
    struct mesh_server *server = NULL;
    int err = mesh_server_create(&options, &server);
    int number;

    if (err == 0)
        err = mesh_server_add_service(server, &service.base, kinds);
    if (err == 0)
        err = mesh_server_start(server);
    if (err == 0) {
        sigwait(signals, &number);
        err = mesh_server_drain(server, 30000);
    }
    mesh_server_destroy(&server);
    return err == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

int main(int argc, char **argv)
{
    const struct config_option *const tables[] = {OPTIONS, NULL};
    const struct config_spec spec = {
        .program = "faults_worker", .summary = "Write down what is executed.", .tables = tables};
    sigset_t signals;
    int operand, status;

    if (config_parse(&spec, argc, argv, &operand, &status) != 0)
        return status;
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* not to outlive a test that fails */
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
    log_init("faults-worker", LOG_INFO, LOG_FORMAT_AUTO);
    journal_open(config.journal);
    return serve(&signals);
}
