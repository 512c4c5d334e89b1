#include "tests/faults/journal.h"

#include "base/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static int fd = -1;

void journal_open(const char *path)
{
    fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (fd < 0) {
        fprintf(stderr, "cannot open '%s': %s\n", path, strerror(errno));
        exit(1);
    }
}

long long journal_wall_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return (long long)now.tv_sec * 1000000000 + now.tv_nsec;
}

void journal(const char *fmt, ...)
{
    char line[256];
    int size = snprintf(line, sizeof(line), "%lld ", (long long)clock_now_ns());
    va_list args;

    va_start(args, fmt);
    size += vsnprintf(line + size, sizeof(line) - (size_t)size, fmt, args);
    va_end(args);
    if (size > (int)sizeof(line) - 2)
        size = sizeof(line) - 2;
    line[size++] = '\n';
    if (write(fd, line, (size_t)size) != size)
        abort(); /* a history with holes proves nothing */
}

static uint64_t mix(uint64_t x)
{
    x ^= x >> 30;
    x *= 0xbf58476d1ce4e5b9u;
    x ^= x >> 27;
    x *= 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

uint64_t ledger_proof(uint64_t secret, uint32_t seq)
{
    return mix(secret + 0x9e3779b97f4a7c15u * (seq + 1));
}

uint64_t ledger_chain(uint64_t chain, uint64_t proof, uint64_t bytes)
{
    return mix(chain ^ proof) + bytes;
}
