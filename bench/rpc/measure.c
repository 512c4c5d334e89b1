#include "bench/rpc/measure.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define LATENCIES_MAX (1u << 23)
#define CHECK_WHOLE_EVERY 256

struct measure {
    const struct measure_plan *plan;
    int64_t warm_ns, begin_ns, end_ns; /* begin: when the warm-up was over; 0: not yet */
    double cpu_s[MEASURE_PIDS + 1];    /* the client's own last */
    bool over;
    uint64_t calls;
    int64_t last_ns, gap_ns; /* the longest time without an answer */
    size_t n_latencies;
    uint32_t *latencies_ns;
};

static _Noreturn void usage(const char *program, const char *why)
{
    fprintf(stderr,
            "%s: %s\nusage: %s --endpoint E [--mode M] [--extra X] [--size BYTES] [--in-flight N]\n"
            "       [--seconds S] [--warmup S] [--pid NAME=PID]...\n",
            program, why, program);
    exit(2);
}

static void add_pid(const char *program, struct measure_plan *plan, char *text)
{
    char *equals = strchr(text, '=');

    if (!equals || plan->n_pids == MEASURE_PIDS)
        usage(program, "--pid wants NAME=PID, at most 8 times");
    *equals = '\0';
    plan->pid_names[plan->n_pids] = text;
    plan->pids[plan->n_pids++] = atoi(equals + 1);
}

void measure_parse(int argc, char **argv, struct measure_plan *plan)
{
    static const struct option OPTIONS[] = {
        {"endpoint", 1, NULL, 'e'}, {"mode", 1, NULL, 'm'},      {"extra", 1, NULL, 'x'},
        {"size", 1, NULL, 's'},     {"in-flight", 1, NULL, 'c'}, {"seconds", 1, NULL, 't'},
        {"warmup", 1, NULL, 'w'},   {"pid", 1, NULL, 'p'},       {NULL, 0, NULL, 0},
    };
    int option;

    *plan = (struct measure_plan){
        .mode = "", .extra = "", .size = 64, .in_flight = 1, .seconds = 1, .warmup_s = 0.2};
    while ((option = getopt_long(argc, argv, "", OPTIONS, NULL)) != -1) {
        switch (option) {
        case 'e':
            plan->endpoint = optarg;
            break;
        case 'm':
            plan->mode = optarg;
            break;
        case 'x':
            plan->extra = optarg;
            break;
        case 's':
            plan->size = strtoul(optarg, NULL, 10);
            break;
        case 'c':
            plan->in_flight = atoi(optarg);
            break;
        case 't':
            plan->seconds = atof(optarg);
            break;
        case 'w':
            plan->warmup_s = atof(optarg);
            break;
        case 'p':
            add_pid(argv[0], plan, optarg);
            break;
        default:
            usage(argv[0], "unknown flag");
        }
    }
    if (!plan->endpoint || plan->in_flight < 1 || plan->size < 1 || plan->seconds <= 0)
        usage(argv[0], "--endpoint is missing, or a number is not above 0");
}

int64_t measure_now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* Of a whole process, exact to the nanosecond. */
static double cpu_of(int pid)
{
    struct timespec used = {0, 0};
    clockid_t clock;

    if (clock_getcpuclockid(pid, &clock) != 0 || clock_gettime(clock, &used) != 0)
        return 0;
    return (double)used.tv_sec + (double)used.tv_nsec * 1e-9;
}

void measure_fill(uint8_t *payload, size_t size)
{
    uint32_t x = 0x9e3779b9u;

    for (size_t i = 0; i < size; i++) {
        x = x * 1664525u + 1013904223u;
        payload[i] = (uint8_t)(x >> 24);
    }
}

void measure_stamp(uint8_t *payload, size_t size, uint64_t number)
{
    size_t n = size < sizeof(number) ? size : sizeof(number);

    memcpy(payload, &number, n);
    memcpy(payload + size - n, &number, n);
}

void measure_check(const uint8_t *sent, size_t size, const uint8_t *got, size_t got_size,
                   uint64_t number)
{
    size_t n = size < sizeof(number) ? size : sizeof(number);

    if (got_size == size && memcmp(sent, got, n) == 0 &&
        memcmp(sent + size - n, got + size - n, n) == 0 &&
        (number % CHECK_WHOLE_EVERY != 0 || memcmp(sent, got, size) == 0))
        return;
    fprintf(stderr, "call %llu: the reply is not what was sent (%zu bytes of %zu)\n",
            (unsigned long long)number, got_size, size);
    exit(1);
}

struct measure *measure_begin(const struct measure_plan *plan)
{
    struct measure *measure = calloc(1, sizeof(*measure));

    if (!measure || !(measure->latencies_ns = malloc(LATENCIES_MAX * sizeof(uint32_t)))) {
        fprintf(stderr, "out of memory\n");
        exit(1);
    }
    measure->plan = plan;
    measure->warm_ns = measure_now_ns() + (int64_t)(plan->warmup_s * 1e9);
    return measure;
}

static void read_cpu(struct measure *measure, int sign)
{
    const struct measure_plan *plan = measure->plan;

    for (int i = 0; i < plan->n_pids; i++)
        measure->cpu_s[i] += sign * cpu_of(plan->pids[i]);
    measure->cpu_s[plan->n_pids] += sign * cpu_of(0);
}

bool measure_call(struct measure *measure, int64_t begun_ns, int64_t now_ns)
{
    if (measure->over)
        return false;
    if (measure->begin_ns == 0) {
        if (now_ns >= measure->warm_ns) {
            read_cpu(measure, -1);
            measure->begin_ns = measure->last_ns = now_ns;
        }
        return true;
    }
    measure->calls++;
    if (now_ns - measure->last_ns > measure->gap_ns)
        measure->gap_ns = now_ns - measure->last_ns;
    measure->last_ns = now_ns;
    if (begun_ns >= measure->begin_ns && measure->n_latencies < LATENCIES_MAX)
        measure->latencies_ns[measure->n_latencies++] =
            now_ns - begun_ns < UINT32_MAX ? (uint32_t)(now_ns - begun_ns) : UINT32_MAX;
    if ((double)(now_ns - measure->begin_ns) < measure->plan->seconds * 1e9)
        return true;
    measure->end_ns = now_ns;
    measure->over = true;
    read_cpu(measure, 1);
    return false;
}

static int by_size(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

    return (x > y) - (x < y);
}

static double quantile_us(const struct measure *measure, double q)
{
    size_t n = measure->n_latencies;

    return n == 0 ? 0 : measure->latencies_ns[(size_t)(q * (double)(n - 1))] * 1e-3;
}

void measure_print(struct measure *measure)
{
    const struct measure_plan *plan = measure->plan;
    double seconds = (double)(measure->end_ns - measure->begin_ns) * 1e-9;
    double per_call = measure->calls ? 1e6 / (double)measure->calls : 0;

    qsort(measure->latencies_ns, measure->n_latencies, sizeof(uint32_t), by_size);
    printf("{\"calls\": %llu, \"calls_per_s\": %.1f, \"p50_us\": %.2f, \"p99_us\": %.2f, "
           "\"max_us\": %.1f, \"gap_us\": %.1f, \"cpu_us\": {",
           (unsigned long long)measure->calls, (double)measure->calls / seconds,
           quantile_us(measure, 0.5), quantile_us(measure, 0.99), quantile_us(measure, 1),
           (double)measure->gap_ns * 1e-3);
    for (int i = 0; i < plan->n_pids; i++)
        printf("\"%s\": %.3f, ", plan->pid_names[i], measure->cpu_s[i] * per_call);
    printf("\"client\": %.3f}}\n", measure->cpu_s[plan->n_pids] * per_call);
    fflush(stdout);
    free(measure->latencies_ns);
    free(measure);
}
