/*
 * Preloaded into a process: its wall clock reads what the test's file says (wall_clock.py), and nothing else
 * changes. The monotonic clock, sleeps and time-outs stay the kernel's.
 *
 * libfaketime does not fit: with its monotonic clock off it still shifts pthread_cond_timedwait() on that clock,
 * and stretches poll() and nanosleep() by the rate of the wall clock.
 *
 * Whoever waits for a moment of the wall clock (a condition of CLOCK_REALTIME) asks the kernel, which knows of
 * no jump: an hour ahead waits an hour too long, an hour back not at all. So that, too, is seen.
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define NS_PER_S INT64_C(1000000000)

/* From since_ns of the monotonic clock on: wall_ns, and how it goes on. */
struct setting {
    int64_t since_ns, wall_ns, per_million;
};

/* The file. Settings are only added, each before n counts it: no reader sees half of one. */
struct settings {
    _Atomic int64_t n;
    struct setting each[];
};

static const struct settings *settings;
static int (*next_gettime)(clockid_t, struct timespec *);

__attribute__((constructor)) static void open_settings(void)
{
    const char *path = getenv("FAULTS_WALL_CLOCK");
    int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    void *page = fd < 0 ? MAP_FAILED : mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);

    next_gettime = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    if (page == MAP_FAILED)
        abort(); /* a clock that nobody moves proves nothing */
    close(fd);
    settings = page;
}

static int read_clock(clockid_t clock, struct timespec *out)
{
    if (!next_gettime) /* before the constructor */
        return (int)syscall(SYS_clock_gettime, clock, out);
    return next_gettime(clock, out);
}

static int64_t read_ns(clockid_t clock)
{
    struct timespec now = {0};

    read_clock(clock, &now);
    return now.tv_sec * NS_PER_S + now.tv_nsec;
}

static int64_t wall_ns(void)
{
    int64_t n = settings ? atomic_load_explicit(&settings->n, memory_order_acquire) : 0;
    const struct setting *now;

    if (n == 0)
        return read_ns(CLOCK_REALTIME);
    now = &settings->each[n - 1];
    return now->wall_ns +
           (read_ns(CLOCK_MONOTONIC) - now->since_ns) / 1000 * now->per_million / 1000;
}

int clock_gettime(clockid_t clock, struct timespec *out)
{
    int64_t ns;

    if (clock != CLOCK_REALTIME && clock != CLOCK_REALTIME_COARSE)
        return read_clock(clock, out);
    ns = wall_ns();
    *out = (struct timespec){.tv_sec = ns / NS_PER_S, .tv_nsec = ns % NS_PER_S};
    return 0;
}

int gettimeofday(struct timeval *restrict out, void *restrict zone)
{
    int64_t ns = wall_ns();

    (void)zone;
    *out = (struct timeval){.tv_sec = ns / NS_PER_S, .tv_usec = ns % NS_PER_S / 1000};
    return 0;
}

time_t time(time_t *out)
{
    time_t now = wall_ns() / NS_PER_S;

    if (out)
        *out = now;
    return now;
}

int timespec_get(struct timespec *out, int base)
{
    return base == TIME_UTC && clock_gettime(CLOCK_REALTIME, out) == 0 ? base : 0;
}
