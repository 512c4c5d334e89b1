/*
 * echo_server - the echo service for a broker, or with --bind for callers themselves, until SIGTERM
 *
 *   echo_server --endpoint ENDPOINT [--bind] [--capacity N] [--name NAME] [--key FILE --broker-key FILE]
 */
#include "base/heap.h"
#include "base/log.h"
#include "bench/rpc/echo_service.h"
#include "mesh/security.h"

#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int parse(int argc, char **argv, struct mesh_server_options *options,
                 struct mesh_key_flags *keys)
{
    static const struct option OPTIONS[] = {
        {"endpoint", 1, NULL, 'e'}, {"bind", 0, NULL, 'b'}, {"capacity", 1, NULL, 'c'},
        {"name", 1, NULL, 'n'},     {"key", 1, NULL, 'k'},  {"broker-key", 1, NULL, 'B'},
        {NULL, 0, NULL, 0},
    };
    int option;

    while ((option = getopt_long(argc, argv, "", OPTIONS, NULL)) != -1) {
        switch (option) {
        case 'e':
            options->endpoint = optarg;
            break;
        case 'b':
            options->bind = true;
            break;
        case 'c':
            options->capacity = (uint32_t)strtoul(optarg, NULL, 10);
            break;
        case 'n':
            options->name = optarg;
            break;
        case 'k':
            keys->key = optarg;
            break;
        case 'B':
            keys->broker_key = optarg;
            break;
        default:
            return -1;
        }
    }
    return options->endpoint ? 0 : -1;
}

int main(int argc, char **argv)
{
    struct mesh_server_options options = {.name = "echo", .capacity = 64};
    struct mesh_key_flags keys = {NULL, NULL};
    struct mesh_server *server = NULL;
    struct mesh_security security;
    sigset_t signals;
    int number, secure;

    heap_keep();
    if (parse(argc, argv, &options, &keys) < 0) {
        fprintf(stderr,
                "usage: %s --endpoint ENDPOINT [--bind] [--capacity N] [--name NAME]"
                " [--key FILE --broker-key FILE]\n",
                argv[0]);
        return 2;
    }
    log_init("echo_server", LOG_WARN, LOG_FORMAT_TEXT);
    secure = mesh_security_load(&keys, &security);
    if (secure < 0)
        return 2;
    if (secure)
        options.security = &security;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
    if (echo_service_start(&options, &server) < 0)
        return 1;
    if (options.bind)
        printf("%s\n", mesh_server_endpoint(server));
    fflush(stdout);
    sigwait(&signals, &number);
    mesh_server_drain(server, 10000);
    mesh_server_destroy(&server);
    if (secure)
        mesh_security_wipe(&security);
    return 0;
}
