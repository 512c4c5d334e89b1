/*
 * test_start.c - what is decided once, while the process starts: this program runs itself as a child
 */
#include "compute/compute.h"
#include "compute/openblas.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <sys/wait.h>
#include <unistd.h>

#ifdef __x86_64__
#define OLD_CORE "Nehalem"
#else
#define OLD_CORE "ARMV8"
#endif

/* The first line of this program under `environment`, an assignment or "unset NAME;". */
static void first_line(const char *environment, const char *flag, char *out, size_t size)
{
    char line[256];
    FILE *child;

    snprintf(line, sizeof(line), "%s /proc/%d/exe %s 2>/dev/null", environment, (int)getpid(),
             flag);
    child = popen(line, "r");
    assert_non_null(child);
    assert_non_null(fgets(out, (int)size, child));
    assert_int_equal(pclose(child), 0);
    out[strcspn(out, "\n")] = '\0';
}

static void core_fits_the_cpu(void **state)
{
    const char *asked = openblas_core_for_cpu(); /* NULL: OpenBLAS chooses well by itself */
    char core[64];

    (void)state;
    first_line("unset OPENBLAS_CORETYPE;", "--core", core, sizeof(core));
    if (asked)
        assert_string_equal(core, asked);
    else
        assert_true(core[0] && strcmp(core, "Prescott") != 0);
}

static void the_user_has_the_last_word(void **state)
{
    char core[64];

    (void)state;
    first_line("OPENBLAS_CORETYPE=" OLD_CORE, "--core", core, sizeof(core));
    assert_string_equal(core, OLD_CORE);
}

static void the_environment_limits_the_kernels(void **state)
{
    char best[64], isa[64];

    (void)state;
    first_line("DRAGOMAN_ISA=portable", "--isa", isa, sizeof(isa));
    assert_string_equal(isa, "portable");
    first_line("unset DRAGOMAN_ISA;", "--isa", best, sizeof(best));
    first_line("DRAGOMAN_ISA=abacus", "--isa", isa, sizeof(isa)); /* warned of, then ignored */
    assert_string_equal(isa, best);
}

static int print_isa(void)
{
    struct compute *compute = NULL;

    if (compute_create(1, &compute) < 0)
        return 1;
    puts(compute_isa_name(compute_isa(compute)));
    compute_destroy(&compute);
    return 0;
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(core_fits_the_cpu),
        cmocka_unit_test(the_user_has_the_last_word),
        cmocka_unit_test(the_environment_limits_the_kernels),
    };

    if (argc > 1 && strcmp(argv[1], "--core") == 0) {
        puts(compute_openblas_core());
        return 0;
    }
    if (argc > 1 && strcmp(argv[1], "--isa") == 0)
        return print_isa();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
