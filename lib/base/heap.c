#include "base/heap.h"

#include <malloc.h>

#define FROM_HEAP_BYTES (32 << 20) /* the most that glibc allows */
#define KEEP_BYTES (8 << 20)

void heap_keep(void)
{
#ifdef M_TRIM_THRESHOLD
    mallopt(M_MMAP_THRESHOLD, FROM_HEAP_BYTES);
    mallopt(M_TRIM_THRESHOLD, KEEP_BYTES);
#endif
}
