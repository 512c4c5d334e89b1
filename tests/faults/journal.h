/*
 * journal.h - what a process saw, a line each, for the checker (history.py)
 *
 *   <monotonic ns> <what> key=value key=value...
 *
 * Several processes may write to one file: each line is one write to its end.
 */
#ifndef TESTS_FAULTS_JOURNAL_H
#define TESTS_FAULTS_JOURNAL_H

#include <stdint.h>

/** Ends the process when the file cannot be opened. */
void journal_open(const char *path);
/** Thread-safe. */
void journal(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/** The wall clock, for lines by which a test sees that it has moved. */
long long journal_wall_ns(void);

/* What a receipt proves, and how receipts of a stream hang together. */
uint64_t ledger_proof(uint64_t secret, uint32_t seq);
uint64_t ledger_chain(uint64_t chain, uint64_t proof, uint64_t bytes);

#endif
