/*
 * cases.h - the cases: each sets its stage, breaks something, and fills in its figures
 */
#ifndef BENCH_RPC_RELIABILITY_CASES_H
#define BENCH_RPC_RELIABILITY_CASES_H

#include <stdbool.h>

/** Give a figure a name: printed as JSON at the end. */
void figure(const char *name, double value);

/* failover.c */
void case_kill(bool quick);    /* a worker gets kill -9 under load */
void case_stop(bool quick);    /* a worker gets SIGSTOP under load */
void case_restart(bool quick); /* workers and brokers restart one after another under load */
/* timing.c */
void case_deadline(bool quick); /* how exactly a deadline ends a call */
void case_cancel(bool quick);   /* how soon a handler sees a cancellation */
void case_overload(bool quick); /* twice the load that fits */
/* memory.c */
void case_idle(bool quick);   /* a broker alone, and with idle callers */
void case_queued(bool quick); /* a broker with many workers and a long queue */

#endif
