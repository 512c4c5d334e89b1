/* Who a peer is by its certificate, what it may do for that, and how workers hear of it. */
#include "base/log.h"
#include "broker/state.h"
#include "broker/stats.h"

#include <stdlib.h>
#include <string.h>

/* ---- what somebody may do -------------------------------------------------------------------- */

int identity_take(struct session *session, const struct mesh_identity *identity)
{
    if (!identity)
        return 0;
    session->identity = malloc(sizeof(*identity));
    if (!session->identity)
        return -1;
    *session->identity = *identity;
    return 0;
}

uint16_t identity_number(const struct session *session)
{
    return session->identity ? session->identity->number : 0;
}

/* Health says whether there is any sense in calling, Reflection how; neither says who is there. */
static bool open_to_all(const char *service, size_t size)
{
    static const char *const names[] = {REGISTRY_HEALTH, REGISTRY_REFLECTION};

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (strlen(names[i]) == size && memcmp(names[i], service, size) == 0)
            return true;
    return false;
}

bool identity_may_call(const struct session *session, const char *service, size_t size)
{
    return !session->identity || !session->identity->services[0] ||
           mesh_services_match(session->identity->services, service, size) ||
           open_to_all(service, size);
}

bool identity_may_offer(const struct session *session, const mesh_register *offer)
{
    if (!session->identity)
        return true;
    for (size_t i = 0; i < offer->n_services; i++) {
        const char *name = offer->services[i]->name;

        if (!mesh_services_match(session->identity->services, name, strlen(name))) {
            log_warn("worker '%s' offers %.200s, which its certificate '%s' does not allow",
                     session->name, name, session->identity->name);
            return false;
        }
    }
    return true;
}

/* ---- telling workers ------------------------------------------------------------------------- */

/* @return false: memory is out */
static bool note_told(struct worker *worker, uint16_t number)
{
    size_t byte = number / 8;

    if (byte >= worker->n_told) {
        size_t n = byte + 32;
        uint8_t *told = realloc(worker->told, n);

        if (!told)
            return false;
        memset(told + worker->n_told, 0, n - worker->n_told);
        worker->told = told;
        worker->n_told = n;
    }
    worker->told[byte] |= (uint8_t)(1 << number % 8);
    return true;
}

static bool was_told(const struct worker *worker, uint16_t number)
{
    return number / 8u < worker->n_told && worker->told[number / 8] & 1 << number % 8;
}

void identity_tell(struct broker_core *core, struct worker *worker, const struct call *call)
{
    const struct mesh_identity *identity = call->caller ? call->caller->identity : NULL;
    Dragoman__Mesh__V1__Identity body = DRAGOMAN__MESH__V1__IDENTITY__INIT;
    struct mesh_header header = {.kind = MESH_IDENTITY};

    if (!identity || was_told(worker, identity->number) || !note_told(worker, identity->number))
        return;
    body.number = identity->number;
    body.name = (char *)identity->name;
    core_send(core, worker->session, &header, NULL, &body.base, false);
}

/* ---- taking it back -------------------------------------------------------------------------- */

static void cut(struct broker_core *core, enum broker_side side, uint64_t peer)
{
    struct broker_message *message = broker_core_blank(core);

    if (message)
        core_act(core, message, BROKER_CUT, side, peer);
}

void identity_refuse(struct broker_core *core, enum broker_side side, uint64_t peer,
                     const char *why)
{
    stats_dropped("not_let_in");
    core_send_error(core, BROKER_ANSWER, side, peer, STATUS_UNAUTHENTICATED, why);
    cut(core, side, peer);
}

void identity_revoke(struct broker_core *core, enum broker_side side, uint16_t number)
{
    struct session *session = LIST_FIRST(&core->sessions);

    while (session) {
        struct session *next = LIST_NEXT(session, link);

        if (session->side == side && identity_number(session) == number) {
            uint64_t peer = session->peer;

            log_info("'%s' is let in no longer: its session as '%s' ends", session->identity->name,
                     session->name);
            core_send_error(core, BROKER_SEND, side, peer, STATUS_UNAUTHENTICATED,
                            "your certificate was withdrawn");
            session_end(core, session, "its certificate was withdrawn");
            cut(core, side, peer);
        }
        session = next;
    }
}
