#include "base/metrics.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

enum kind { COUNTER, GAUGE, HISTOGRAM };

static const char *const KINDS[] = {"counter", "gauge", "histogram"};

static const double BOUNDS[] = {/* seconds */
                                1e-5, 5e-5, 1e-4, 3e-4, 6e-4, 8e-4, 1e-3, 2e-3, 3e-3, 5e-3,
                                8e-3, 0.01, 0.02, 0.03, 0.05, 0.08, 0.1,  0.2,  0.3,  0.5,
                                0.8,  1.0,  2.0,  5.0,  10.0, 20.0, 50.0, 100.0};
#define N_BOUNDS (sizeof(BOUNDS) / sizeof(BOUNDS[0]))

struct histogram {
    _Atomic uint64_t counts[N_BOUNDS + 1]; /* the last: beyond every bound */
};

struct metric {
    struct metric *next;
    struct histogram *histogram; /* NULL for counters and gauges */
    _Atomic uint64_t bits;       /* a double: the value, or a histogram's sum */
    char labels[];
};

struct family {
    struct family *next;
    enum kind kind;
    size_t n_series;
    struct metric *series;
    const char *help;
    char name[];
};

/* Never freed: series live as long as the process. */
static struct family *families;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static _Atomic uint64_t n_overflowed; /* times that a label set was counted as "other" */

static struct family *family_find(enum kind kind, const char *name, const char *help)
{
    struct family **at = &families;
    size_t size = strlen(name) + 1;
    size_t help_size = strlen(help) + 1;

    for (; *at; at = &(*at)->next)
        if (strcmp((*at)->name, name) == 0) {
            assert((*at)->kind == kind);
            return *at;
        }
    *at = calloc(1, sizeof(**at) + size + help_size);
    if (!*at)
        return NULL;
    (*at)->kind = kind;
    memcpy((*at)->name, name, size);
    memcpy((*at)->name + size, help, help_size);
    (*at)->help = (*at)->name + size;
    return *at;
}

/* `a="x",b="y"` with every value replaced: `a="other",b="other"`. */
static int labels_other(const char *labels, struct buffer *out)
{
    const char *at = labels;
    int err = 0;

    while (err == 0 && *at) {
        const char *quote = strchr(at, '"');

        if (!quote)
            break;
        err = buffer_append(out, at, (size_t)(quote - at));
        if (err == 0)
            err = buffer_printf(out, "\"other\"");
        for (at = quote + 1; *at && *at != '"'; at++)
            if (*at == '\\' && at[1])
                at++;
        at += *at == '"';
    }
    return err;
}

static struct metric *series_find(struct family *family, const char *labels)
{
    for (struct metric *metric = family->series; metric; metric = metric->next)
        if (strcmp(metric->labels, labels) == 0)
            return metric;
    return NULL;
}

static struct metric *series_make(struct family *family, const char *labels)
{
    size_t size = strlen(labels) + 1;
    struct metric *metric = calloc(1, sizeof(*metric) + size);
    struct metric **end = &family->series;

    if (metric && family->kind == HISTOGRAM) {
        metric->histogram = calloc(1, sizeof(*metric->histogram));
        if (!metric->histogram) {
            free(metric);
            metric = NULL;
        }
    }
    if (!metric)
        return NULL;
    memcpy(metric->labels, labels, size);
    while (*end)
        end = &(*end)->next;
    *end = metric;
    family->n_series++;
    return metric;
}

static struct metric *find_or_make(enum kind kind, const char *name, const char *help,
                                   const char *labels)
{
    struct family *family = NULL;
    struct metric *metric = NULL;
    struct buffer other;

    pthread_mutex_lock(&lock);
    buffer_init(&other, SIZE_MAX / 2);
    family = family_find(kind, name, help ? help : "");
    if (family)
        metric = series_find(family, labels ? labels : "");
    if (family && !metric && family->n_series < METRICS_SERIES_MAX)
        metric = series_make(family, labels ? labels : "");
    else if (family && !metric && labels && labels_other(labels, &other) == 0) {
        atomic_fetch_add_explicit(&n_overflowed, 1, memory_order_relaxed);
        metric = series_find(family, (const char *)other.data);
        if (!metric)
            metric = series_make(family, (const char *)other.data);
    }
    buffer_fini(&other);
    pthread_mutex_unlock(&lock);
    return metric;
}

struct metric *metrics_counter(const char *name, const char *help, const char *labels)
{
    return find_or_make(COUNTER, name, help, labels);
}

struct metric *metrics_gauge(const char *name, const char *help, const char *labels)
{
    return find_or_make(GAUGE, name, help, labels);
}

struct metric *metrics_histogram(const char *name, const char *help, const char *labels)
{
    return find_or_make(HISTOGRAM, name, help, labels);
}

static double double_of(uint64_t bits)
{
    double value;

    memcpy(&value, &bits, sizeof(value));
    return value;
}

static uint64_t bits_of(double value)
{
    uint64_t bits;

    memcpy(&bits, &value, sizeof(bits));
    return bits;
}

void metric_add(struct metric *metric, double value)
{
    uint64_t old;

    if (!metric)
        return;
    old = atomic_load_explicit(&metric->bits, memory_order_relaxed);
    while (!atomic_compare_exchange_weak_explicit(&metric->bits, &old,
                                                  bits_of(double_of(old) + value),
                                                  memory_order_relaxed, memory_order_relaxed))
        continue;
}

void metric_set(struct metric *metric, double value)
{
    if (metric)
        atomic_store_explicit(&metric->bits, bits_of(value), memory_order_relaxed);
}

void metric_observe(struct metric *metric, double value)
{
    size_t i = 0;

    if (!metric || !metric->histogram)
        return;
    while (i < N_BOUNDS && !(value <= BOUNDS[i]))
        i++;
    atomic_fetch_add_explicit(&metric->histogram->counts[i], 1, memory_order_relaxed);
    metric_add(metric, value);
}

static int render_histogram(struct buffer *out, const struct family *family,
                            const struct metric *metric)
{
    const char *labels = metric->labels;
    const char *comma = *labels ? "," : "";
    uint64_t total = 0;
    int err = 0;

    for (size_t i = 0; err == 0 && i < N_BOUNDS; i++) {
        total += atomic_load_explicit(&metric->histogram->counts[i], memory_order_relaxed);
        err = buffer_printf(out, "%s_bucket{%s%sle=\"%g\"} %llu\n", family->name, labels, comma,
                            BOUNDS[i], (unsigned long long)total);
    }
    total += atomic_load_explicit(&metric->histogram->counts[N_BOUNDS], memory_order_relaxed);
    if (err == 0)
        err = buffer_printf(out, "%s_bucket{%s%sle=\"+Inf\"} %llu\n", family->name, labels, comma,
                            (unsigned long long)total);
    if (err == 0)
        err = buffer_printf(out, "%s_sum%s%s%s %.17g\n", family->name, *labels ? "{" : "", labels,
                            *labels ? "}" : "", double_of(atomic_load(&metric->bits)));
    if (err == 0)
        err = buffer_printf(out, "%s_count%s%s%s %llu\n", family->name, *labels ? "{" : "", labels,
                            *labels ? "}" : "", (unsigned long long)total);
    return err;
}

static int render_family(struct buffer *out, const struct family *family)
{
    int err = buffer_printf(out, "# HELP %s %s\n# TYPE %s %s\n", family->name, family->help,
                            family->name, KINDS[family->kind]);

    for (const struct metric *metric = family->series; err == 0 && metric; metric = metric->next) {
        const char *labels = metric->labels;

        if (family->kind == HISTOGRAM)
            err = render_histogram(out, family, metric);
        else
            err = buffer_printf(out, "%s%s%s%s %.17g\n", family->name, *labels ? "{" : "", labels,
                                *labels ? "}" : "", double_of(atomic_load(&metric->bits)));
    }
    return err;
}

static int render_gauge(struct buffer *out, const char *name, const char *kind, const char *help,
                        double value)
{
    return buffer_printf(out, "# HELP %s %s\n# TYPE %s %s\n%s %.17g\n", name, help, name, kind,
                         name, value);
}

static double seconds_of(struct timeval time)
{
    return (double)time.tv_sec + (double)time.tv_usec * 1e-6;
}

static double resident_bytes(void)
{
    FILE *stream = fopen("/proc/self/statm", "re");
    unsigned long long size;
    unsigned long long resident = 0;

    if (stream && fscanf(stream, "%llu %llu", &size, &resident) != 2)
        resident = 0;
    if (stream)
        fclose(stream);
    return (double)resident * (double)sysconf(_SC_PAGESIZE);
}

static double entries(const char *path)
{
    DIR *folder = opendir(path);
    double count = 0;

    for (struct dirent *entry; folder && (entry = readdir(folder));)
        count += entry->d_name[0] != '.';
    if (folder)
        closedir(folder);
    return count;
}

static int render_process(struct buffer *out)
{
    struct rusage usage;
    int err;

    getrusage(RUSAGE_SELF, &usage);
    err = render_gauge(out, "process_cpu_seconds_total", "counter",
                       "Processor time, user and system.",
                       seconds_of(usage.ru_utime) + seconds_of(usage.ru_stime));
    if (err == 0)
        err = render_gauge(out, "process_resident_memory_bytes", "gauge", "Memory in use.",
                           resident_bytes());
    if (err == 0)
        err = render_gauge(out, "process_max_resident_memory_bytes", "gauge",
                           "The most memory that was in use.", (double)usage.ru_maxrss * 1024);
    if (err == 0)
        err = render_gauge(out, "process_open_fds", "gauge", "Open file descriptors.",
                           entries("/proc/self/fd") - 1); /* less the one that counts them */
    if (err == 0)
        err = render_gauge(out, "process_threads", "gauge", "Threads.", entries("/proc/self/task"));
    if (err == 0)
        err = render_gauge(out, "dragoman_metrics_overflow_total", "counter",
                           "Times that a new label set was counted as other, past the bound.",
                           (double)atomic_load(&n_overflowed));
    if (err == 0)
        err = buffer_printf(out, "# HELP dragoman_build_info The version, always 1.\n"
                                 "# TYPE dragoman_build_info gauge\n"
                                 "dragoman_build_info{version=\"" DRAGOMAN_VERSION "\"} 1\n");
    return err;
}

int metrics_render(struct buffer *out)
{
    int err = 0;

    pthread_mutex_lock(&lock);
    for (const struct family *family = families; err == 0 && family; family = family->next)
        err = render_family(out, family);
    pthread_mutex_unlock(&lock);
    return err < 0 ? err : render_process(out);
}
