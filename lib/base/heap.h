/*
 * heap.h - how malloc() treats large blocks, for processes that pass messages on
 */
#ifndef BASE_HEAP_H
#define BASE_HEAP_H

/**
 * Take blocks of up to 32 MiB from the heap and keep up to 8 MiB that are free at its end.
 *
 * Else each large message costs a mapping, or the end of the heap goes back to the system and comes
 * again, page by page: a sixth of all CPU time with messages of 1 MiB. Call it first in main().
 */
void heap_keep(void);

#endif
