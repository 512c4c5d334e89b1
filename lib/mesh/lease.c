#include "mesh/lease.h"

void lease_init(struct lease *lease, uint32_t capacity, size_t n)
{
    *lease = (struct lease){.capacity = capacity, .n = n};
}

/* ---- what is held ---------------------------------------------------------------------------- */

static uint32_t max3(uint32_t a, uint32_t b, uint32_t c)
{
    uint32_t most = a > b ? a : b;

    return most > c ? most : c;
}

static uint32_t held(const struct lease_share *share)
{
    return share->up ? max3(share->told, share->before, share->running) : 0;
}

/* Slots that nobody may make use of. */
static uint32_t room(const struct lease *lease)
{
    uint64_t taken = lease->lost;

    for (size_t i = 0; i < lease->n; i++)
        taken += held(&lease->shares[i]);
    return taken < lease->capacity ? lease->capacity - (uint32_t)taken : 0;
}

/* ---- targets --------------------------------------------------------------------------------- */

static bool may_share(const struct lease_share *share)
{
    return share->up && !share->going;
}

/* What a broker could make use of now. */
static uint32_t want(const struct lease *lease, const struct lease_share *share)
{
    uint64_t wanted = (uint64_t)share->running + share->demand;

    if (!may_share(share))
        return 0;
    return wanted < lease->capacity ? (uint32_t)wanted : lease->capacity;
}

/* Those with nothing while calls wait there come first, then the others, each round from another start. */
static size_t nth(const struct lease *lease, size_t place)
{
    size_t at = 0;

    for (int starved = 1; starved >= 0; starved--) {
        for (size_t k = 0; k < lease->n; k++) {
            size_t i = (lease->turn + k) % lease->n;
            const struct lease_share *share = &lease->shares[i];

            if ((share->told == 0 && share->demand > 0) == (starved == 1) && at++ == place)
                return i;
        }
    }
    return 0;
}

/* One slot each, round by round, up to `limit` of it. @return what is left */
static uint32_t deal(struct lease *lease, uint32_t slots, bool to_demand)
{
    bool any = true;

    while (slots > 0 && any) {
        any = false;
        for (size_t k = 0; k < lease->n && slots > 0; k++) {
            struct lease_share *share = &lease->shares[nth(lease, k)];
            uint32_t limit = to_demand ? want(lease, share) : lease->capacity;

            if (!may_share(share) || share->target >= limit)
                continue;
            share->target++;
            slots--;
            any = true;
        }
    }
    return slots;
}

/* Demand first, the same to all as far as it goes; then the spare ones evenly. */
static void set_targets(struct lease *lease)
{
    uint32_t slots = lease->lost < lease->capacity ? lease->capacity - lease->lost : 0;

    for (size_t i = 0; i < lease->n; i++)
        lease->shares[i].target = 0;
    slots = deal(lease, slots, true);
    deal(lease, slots, false);
}

/* ---- telling --------------------------------------------------------------------------------- */

static void lower(struct lease_share *share)
{
    if (!share->up || share->told <= share->target)
        return;
    if (share->told > share->before)
        share->before = share->told;
    share->told = share->target;
    share->tell = share->confirm = true;
    share->token = UINT64_MAX; /* until the PING is sent nothing confirms it */
}

static void raise_share(struct lease *lease, struct lease_share *share)
{
    uint32_t others = room(lease) + held(share); /* what it could hold */
    uint32_t most = share->target < others ? share->target : others;

    if (!may_share(share) || share->told >= share->target)
        return;
    if (most > share->told) {
        share->told = most;
        share->tell = true;
        if (share->told >= share->before)
            share->before = 0;
    }
    lease->pending |= share->told < share->target;
}

void lease_settle(struct lease *lease)
{
    lease->pending = false;
    for (size_t k = 0; k < lease->n; k++)
        raise_share(lease, &lease->shares[nth(lease, k)]);
}

static bool is_short(const struct lease_share *share)
{
    return may_share(share) && share->demand > 0 && share->running >= share->told;
}

/* Calls wait where the share is used up, or slots are nobody's: else all is well as it is. */
static bool is_due(const struct lease *lease)
{
    for (size_t i = 0; i < lease->n; i++) {
        if (is_short(&lease->shares[i]))
            return true;
    }
    return room(lease) > 0;
}

void lease_plan(struct lease *lease)
{
    if (!is_due(lease)) {
        lease_settle(lease);
        return;
    }
    lease->turn++;
    set_targets(lease);
    for (size_t i = 0; i < lease->n; i++)
        lower(&lease->shares[i]);
    lease_settle(lease);
}

/* A new broker gets its part also without calls that wait. */
static void plan_anew(struct lease *lease)
{
    set_targets(lease);
    for (size_t i = 0; i < lease->n; i++)
        lower(&lease->shares[i]);
    lease_settle(lease);
}

bool lease_next(struct lease *lease, size_t *i, uint32_t *share, bool *confirm)
{
    for (size_t k = 0; k < lease->n; k++) {
        struct lease_share *at = &lease->shares[k];

        if (!at->tell)
            continue;
        *i = k;
        *share = at->told;
        *confirm = at->confirm;
        at->tell = at->confirm = false;
        return true;
    }
    return false;
}

void lease_asked(struct lease *lease, size_t i, uint64_t token)
{
    lease->shares[i].token = token;
}

/* ---- events ---------------------------------------------------------------------------------- */

uint32_t lease_up(struct lease *lease, size_t i)
{
    struct lease_share *share = &lease->shares[i];

    *share = (struct lease_share){0};
    share->told = share->target = room(lease);
    share->up = true;
    plan_anew(lease);
    share->tell = share->confirm = false; /* REGISTER says it */
    share->before = 0;
    return share->told;
}

void lease_down(struct lease *lease, size_t i)
{
    lease->shares[i] = (struct lease_share){0};
    plan_anew(lease);
}

void lease_going(struct lease *lease, size_t i)
{
    lease->shares[i].going = true;
    plan_anew(lease);
}

void lease_running(struct lease *lease, size_t i, uint32_t running)
{
    lease->shares[i].running = running;
}

bool lease_pong(struct lease *lease, size_t i, uint64_t token, uint32_t demand)
{
    struct lease_share *share = &lease->shares[i];

    share->demand = demand;
    if (share->before > 0 && !share->tell && token >= share->token) {
        share->before = 0;
        lease_settle(lease);
    }
    return is_short(share);
}
