/*
 * admin.h - a process's own HTTP port: /metrics, /healthz, /readyz
 *
 * Runs on a thread of its own. /healthz answers 200 as long as the process lives; /readyz 200 or
 * 503 with a reason.
 */
#ifndef BASE_ADMIN_H
#define BASE_ADMIN_H

struct admin;

/**
 * Listen.
 *
 * @param address  "127.0.0.1:9601", "0.0.0.0:9601"; port 0 picks one (logged)
 * @return 0; -EINVAL for an address that is none; -EADDRINUSE; -ENOMEM
 */
int admin_start(const char *address, struct admin **out);
void admin_stop(struct admin **admin);

/** The port it listens on. */
int admin_port(const struct admin *admin);

/** Why the process is not ready ("loading model"), copied; NULL: ready. Process-wide, any thread. */
void admin_set_unready(const char *reason);

#endif
