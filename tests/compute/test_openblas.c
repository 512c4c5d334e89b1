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

/* This program again, as a child that prints the core: its constructors run anew. */
static void core_of_child(const char *asked, char *out, size_t size)
{
    char line[256];
    FILE *child;

    if (asked)
        snprintf(line, sizeof(line), "OPENBLAS_CORETYPE=%s /proc/%d/exe --core", asked,
                 (int)getpid());
    else
        snprintf(line, sizeof(line), "unset OPENBLAS_CORETYPE; /proc/%d/exe --core", (int)getpid());
    child = popen(line, "r");
    assert_non_null(child);
    assert_non_null(fgets(out, (int)size, child));
    assert_int_equal(pclose(child), 0);
    out[strcspn(out, "\n")] = '\0';
}

static void core_fits_the_cpu(void **state)
{
    char core[64];

    (void)state;
    core_of_child(NULL, core, sizeof(core));
    if (!openblas_core_for_cpu())
        skip(); /* nothing is asked for on this machine */
    assert_string_equal(core, openblas_core_for_cpu());
}

static void the_user_has_the_last_word(void **state)
{
    char core[64];

    (void)state;
    if (!openblas_core_for_cpu())
        skip();
    core_of_child("Nehalem", core, sizeof(core));
    assert_string_equal(core, "Nehalem");
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(core_fits_the_cpu),
        cmocka_unit_test(the_user_has_the_last_word),
    };

    if (argc > 1 && strcmp(argv[1], "--core") == 0) {
        puts(compute_openblas_core());
        return 0;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
