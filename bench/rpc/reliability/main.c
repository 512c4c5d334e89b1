/*
 * reliability - what the mesh does when things break, in figures: one line of JSON
 *
 *   reliability BUILD_FOLDER [--quick] [CASE...]     all cases unless some are named
 */
#include "base/log.h"
#include "bench/rpc/reliability/cases.h"
#include "bench/rpc/reliability/stage.h"

#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

static const struct {
    const char *name;
    void (*run)(bool quick);
} CASES[] = {
    {"kill", case_kill},         {"stop", case_stop},     {"restart", case_restart},
    {"deadline", case_deadline}, {"cancel", case_cancel}, {"overload", case_overload},
    {"idle", case_idle},         {"queued", case_queued},
};
#define N_CASES (sizeof(CASES) / sizeof(CASES[0]))

static int n_figures;

void figure(const char *name, double value)
{
    printf("%s\"%s\": %.4g", n_figures++ ? ", " : "{", name, value);
    fflush(stdout);
}

static bool is_wanted(const char *name, int argc, char **argv)
{
    bool named = false;

    for (int i = 2; i < argc; i++) {
        if (strcmp(argv[i], name) == 0)
            return true;
        named |= argv[i][0] != '-';
    }
    return !named;
}

int main(int argc, char **argv)
{
    struct rlimit files;
    bool quick = false;

    if (argc < 2)
        stage_die("usage: %s BUILD_FOLDER [--quick] [CASE...]", argv[0]);
    for (int i = 2; i < argc; i++)
        quick |= strcmp(argv[i], "--quick") == 0;
    stage_build = argv[1];
    stage_open();
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    log_init("reliability", LOG_ERROR, LOG_FORMAT_TEXT);

    for (size_t i = 0; i < N_CASES; i++) {
        if (is_wanted(CASES[i].name, argc, argv))
            CASES[i].run(quick);
    }
    puts(n_figures ? "}" : "{}");
    stage_close();
    return 0;
}
