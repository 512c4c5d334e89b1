/*
 * echo_service.h - the echo service over our mesh, as echo_server offers it and echo_client inside one process
 */
#ifndef BENCH_RPC_ECHO_SERVICE_H
#define BENCH_RPC_ECHO_SERVICE_H

#include "mesh/server.h"

/** Start a server that offers it. @return 0; -errno, with words on standard error */
int echo_service_start(const struct mesh_server_options *options, struct mesh_server **out);

#endif
