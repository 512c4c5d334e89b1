#include "base/cpu.h"

#include <errno.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CPUS_ASSUMED_MAX 8192 /* machines with more do not exist yet */

static int affinity_count(void)
{
    cpu_set_t *set = CPU_ALLOC(CPUS_ASSUMED_MAX);
    size_t size = CPU_ALLOC_SIZE(CPUS_ASSUMED_MAX);
    int count = INT_MAX;

    if (set && sched_getaffinity(0, size, set) == 0)
        count = CPU_COUNT_S(size, set);
    CPU_FREE(set);
    return count;
}

/* Whole processors that a quota pays for; INT_MAX without one. */
static int quota_count(long long quota, long long period)
{
    if (quota <= 0 || period <= 0 || quota / period >= INT_MAX)
        return INT_MAX;
    return (int)((quota + period - 1) / period);
}

/* First line of `folder`/`file` in text; 0 or -ENOENT. */
static int read_line(const char *folder, const char *file, char *text, int size)
{
    char path[PATH_MAX];
    FILE *stream = NULL;
    int n = snprintf(path, sizeof(path), "%s/%s", folder, file);
    int err = -ENOENT;

    if (n < 0 || n >= (int)sizeof(path))
        return err;
    stream = fopen(path, "re");
    if (!stream)
        return err;
    if (fgets(text, size, stream))
        err = 0;
    fclose(stream);
    return err;
}

static int folder_count(const char *folder)
{
    char text[128];
    char period[128];
    long long quota_us;
    long long period_us;

    if (read_line(folder, "cpu.max", text, sizeof(text)) == 0) { /* v2: "max 100000" is none */
        if (sscanf(text, "%lld %lld", &quota_us, &period_us) == 2)
            return quota_count(quota_us, period_us);
        return INT_MAX;
    }
    if (read_line(folder, "cpu.cfs_quota_us", text, sizeof(text)) == 0 &&
        read_line(folder, "cpu.cfs_period_us", period, sizeof(period)) == 0)
        return quota_count(atoll(text), atoll(period));
    return INT_MAX;
}

/* A parent's quota holds for its children: the smallest on the way up counts. */
static int hierarchy_count(const char *root, char *path)
{
    int count = INT_MAX;

    for (;;) {
        char folder[PATH_MAX];
        int n = snprintf(folder, sizeof(folder), "%s%s", root, path);
        int here = n > 0 && n < (int)sizeof(folder) ? folder_count(folder) : INT_MAX;
        char *slash = strrchr(path, '/');

        if (here < count)
            count = here;
        if (!slash)
            return count;
        *slash = '\0';
    }
}

static int cgroup_count(void)
{
    FILE *stream = fopen("/proc/self/cgroup", "re");
    char line[PATH_MAX];
    int count = INT_MAX;

    if (!stream)
        return count;
    while (fgets(line, sizeof(line), stream)) { /* "4:cpu,cpuacct:/a/b", v2: "0::/a/b" */
        char *controllers = strchr(line, ':');
        char *path = controllers ? strchr(controllers + 1, ':') : NULL;
        const char *root = NULL;
        int here;

        if (!path)
            continue;
        *path++ = '\0';
        controllers++;
        path[strcspn(path, "\n")] = '\0';
        if (*controllers == '\0')
            root = "/sys/fs/cgroup";
        else if (strcmp(controllers, "cpu") == 0 || strncmp(controllers, "cpu,", 4) == 0 ||
                 strstr(controllers, ",cpu"))
            root = "/sys/fs/cgroup/cpu";
        if (!root)
            continue;
        here = hierarchy_count(root, path);
        if (here < count)
            count = here;
    }
    fclose(stream);
    return count;
}

int cpu_count(void)
{
    int count = affinity_count();
    int quota = cgroup_count();

    if (quota < count)
        count = quota;
    return count == INT_MAX || count < 1 ? 1 : count;
}
