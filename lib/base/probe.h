/*
 * probe.h - ask a process on this machine whether it is ready: what a container's health check runs
 */
#ifndef BASE_PROBE_H
#define BASE_PROBE_H

/**
 * GET /readyz and print what it says.
 *
 * @param address  "127.0.0.1:9600"
 * @return the exit status: 0 when the answer is 200 within two seconds, else 1
 */
int probe_ready(const char *address);

#endif
