/* Runs the cases over one transport, named on the command line; their names are printed as they run. */
#include "tests/mesh/interop/world.h"

#include "base/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct interop_case *const suites[] = {
    core_cases,  flow_cases,    session_cases, bad_client_cases, end_to_end_cases,
    retry_cases, balance_cases, auth_cases,    details_cases,    age_cases};

static const struct transport *find_transport(const char *name)
{
    const struct transport *transport = transports;

    while (transport->name && strcmp(transport->name, name) != 0)
        transport++;
    return transport->name ? transport : NULL;
}

static bool fits(const struct interop_case *one, const struct transport *transport,
                 const char *wanted)
{
    if (wanted && strcmp(one->name, wanted) != 0)
        return false;
    if (one->flags & CURVE)
        return transport->curve && transport->back;
    if (one->flags & ONCE)
        return strcmp(transport->name, "broker-tcp") == 0;
    if (!transport->back && strchr(transport->front, '*') && (one->flags & BARE))
        return false; /* no address before there is a server */
    return transport->back || !(one->flags & BROKERED);
}

/* @param wanted  the one to run; NULL: all */
static int run(const struct transport *transport, const char *wanted)
{
    static struct CMUnitTest tests[256];
    static struct world_plan plans[256];
    size_t n = 0;

    for (size_t i = 0; i < sizeof(suites) / sizeof(suites[0]); i++) {
        for (const struct interop_case *one = suites[i]; one->name; one++) {
            if (!fits(one, transport, wanted))
                continue;
            plans[n] = (struct world_plan){transport, one->flags};
            tests[n] = (struct CMUnitTest){.name = one->name,
                                           .test_func = one->run,
                                           .setup_func = world_setup,
                                           .teardown_func = world_teardown,
                                           .initial_state = &plans[n]};
            n++;
        }
    }
    if (n == 0) {
        fprintf(stderr, "no case '%s' over %s\n", wanted, transport->name);
        return 2;
    }
    return _cmocka_run_group_tests(transport->name, tests, n, NULL, NULL);
}

int main(int argc, char **argv)
{
    const struct transport *transport = argc >= 2 ? find_transport(argv[1]) : NULL;

    if (!transport) {
        fprintf(stderr, "usage: %s TRANSPORT [CASE]\n", argv[0]);
        for (transport = transports; transport->name; transport++)
            fprintf(stderr, "  %s\n", transport->name);
        return 2;
    }
    log_init("interop", getenv("INTEROP_LOG") ? LOG_DEBUG : LOG_ERROR, LOG_FORMAT_TEXT);
    return run(transport, argc > 2 ? argv[2] : NULL);
}
