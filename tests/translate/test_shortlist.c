#include "translate/marian/shortlist.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define N_SOURCE 4
#define N_TARGET 40

/* Header, offsets of four pieces, the words of each. */
struct file {
    uint64_t magic, checksum, n_first, n_best, n_offsets, n_ids;
    uint64_t offsets[N_SOURCE + 1];
    uint32_t ids[7];
} __attribute__((packed));

static const struct file good = {.magic = UINT64_C(0xF11A48D5013417F5),
                                 .n_first = 3,
                                 .n_best = 2,
                                 .n_offsets = N_SOURCE + 1,
                                 .n_ids = 7,
                                 .offsets = {0, 0, 2, 5, 7},
                                 .ids = {10, 20, 1, 30, 39, 20, 21}};

static int read_file(const struct file *file, struct shortlist **out)
{
    char error[200] = "";
    int err = shortlist_read(file, sizeof(*file), N_SOURCE, N_TARGET, error, sizeof(error), out);

    assert_true((err == 0) == (error[0] == '\0'));
    return err;
}

static void words_are_the_first_and_those_of_the_pieces(void **state)
{
    const uint32_t pieces[] = {1, 3, 1}, want[] = {0, 1, 2, 3, 4, 10, 20, 21};
    struct shortlist *shortlist = NULL;
    uint32_t *ids = NULL;
    size_t n = 0;

    (void)state;
    assert_int_equal(read_file(&good, &shortlist), 0);
    assert_int_equal(shortlist_words(shortlist, pieces, 3, 0, &ids, &n), 0);
    assert_int_equal(n, 8); /* 0 1 2, 10 20 21, and 3 4 up to a multiple of eight */
    assert_memory_equal(ids, want, sizeof(want));
    free(ids);
    assert_int_equal(shortlist_words(shortlist, NULL, 0, 0, &ids, &n), 0);
    assert_int_equal(n, 8);
    for (uint32_t i = 0; i < 8; i++)
        assert_int_equal(ids[i], i);
    free(ids);
    assert_int_equal(shortlist_words(shortlist, pieces, 3, 12, &ids, &n), 0);
    assert_int_equal(n, 16); /* twelve frequent ones, 20 21, and 12 13 */
    for (uint32_t i = 0; i < 14; i++)
        assert_int_equal(ids[i], i);
    free(ids);
    assert_int_equal(shortlist_words(shortlist, pieces, 3, 1000, &ids, &n), 0);
    assert_int_equal(n, N_TARGET);
    free(ids);
    shortlist_destroy(&shortlist);
}

static void damaged_files_are_refused(void **state)
{
    struct file bad[10];
    struct shortlist *shortlist = NULL;
    char error[200];

    (void)state;
    for (size_t i = 0; i < 10; i++)
        bad[i] = good;
    bad[0].magic++;
    bad[1].n_offsets++;
    bad[2].n_ids++;
    bad[3].n_ids = UINT64_MAX / 4 + 3;
    bad[4].offsets[2] = 6; /* descends */
    bad[5].offsets[0] = 1;
    bad[6].offsets[4] = 8;
    bad[7].ids[3] = N_TARGET;
    bad[8].n_first = 0;
    bad[9].offsets[2] = UINT64_MAX;
    for (size_t i = 0; i < 10; i++)
        assert_int_equal(read_file(&bad[i], &shortlist), -EBADMSG);
    for (size_t size = 0; size < sizeof(good); size++) {
        char *exact = malloc(size ? size : 1); /* so that sanitizers see a step too far */

        memcpy(exact, &good, size);
        assert_int_equal(
            shortlist_read(exact, size, N_SOURCE, N_TARGET, error, sizeof(error), &shortlist),
            -EBADMSG);
        free(exact);
    }
    assert_int_equal(
        shortlist_open("/nowhere/lex.bin", N_SOURCE, N_TARGET, error, sizeof(error), &shortlist),
        -ENOENT);
    assert_null(shortlist);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(words_are_the_first_and_those_of_the_pieces),
        cmocka_unit_test(damaged_files_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
