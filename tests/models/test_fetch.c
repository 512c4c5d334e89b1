#include "models/fetch.h"
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
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define SIZE 100000

static char folder[] = "/tmp/dragoman-test-XXXXXX";
static char path[64], part[72];
static char bytes[SIZE];
/* Of `bytes`, as sha256sum prints it. */
static const char *const SHA = "4b5479a255c44228c1a4a459d314a1e7dd2b2493ae5cb99322f01d558bc45790";

static struct http_server *server;
static struct fetch *fetch;
static struct failure failure;
static uint64_t seen_done, seen_total;

static void see(void *arg, uint64_t done, uint64_t total)
{
    (void)arg;
    seen_done = done;
    seen_total = total;
}

static void serve(struct http_route route)
{
    route.path = "/f";
    if (!route.body) {
        route.body = bytes;
        route.size = SIZE;
    }
    http_server_add(server, &route);
}

static int get(uint64_t size, const char *sha256)
{
    char url[128];
    struct fetch_file want = {
        .url = url, .path = path, .size = size, .sha256 = sha256, .progress = see};

    snprintf(url, sizeof(url), "%s/f", http_server_url(server));
    failure.text[0] = '\0';
    return fetch_file(fetch, &want, &failure);
}

static void put_part(const char *data, size_t size)
{
    FILE *file = fopen(part, "w");

    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, size, file), size);
    fclose(file);
}

static void assert_got_everything(void)
{
    size_t size = 0;
    char *got = golden_text(path, &size);

    assert_int_equal(size, SIZE);
    assert_memory_equal(got, bytes, SIZE);
    assert_int_equal(access(part, F_OK), -1);
    free(got);
}

static void assert_nothing_there(void)
{
    assert_int_equal(access(path, F_OK), -1);
    assert_int_equal(access(part, F_OK), -1);
}

static void a_file_comes_whole(void **state)
{
    (void)state;
    serve((struct http_route){.status = 0});
    assert_int_equal(get(SIZE, SHA), 0);
    assert_got_everything();
    assert_int_equal(seen_done, SIZE);
    assert_int_equal(seen_total, SIZE);
    assert_string_equal(http_server_range(server, "/f"), "");
}

static void neither_size_nor_digest_need_be_known(void **state)
{
    (void)state;
    serve((struct http_route){.status = 0});
    assert_int_equal(get(0, NULL), 0);
    assert_got_everything();
    assert_int_equal(seen_total, SIZE); /* the server told */
}

static void it_goes_on_where_it_was_cut_off(void **state)
{
    (void)state;
    serve((struct http_route){.status = 0});
    put_part(bytes, 60000);
    assert_int_equal(get(SIZE, SHA), 0);
    assert_got_everything();
    assert_string_equal(http_server_range(server, "/f"), "bytes=60000-");
    assert_int_equal(http_server_sent(server, "/f"), 40000);
}

static void what_is_complete_is_not_asked_for(void **state)
{
    (void)state;
    serve((struct http_route){.status = 0});
    put_part(bytes, SIZE);
    assert_int_equal(get(SIZE, SHA), 0);
    assert_got_everything();
    assert_int_equal(http_server_requests(server, "/f"), 0);
}

static void nothing_left_to_send_is_the_end(void **state)
{
    (void)state;
    serve((struct http_route){.status = 0}); /* answers 416 */
    put_part(bytes, SIZE);
    assert_int_equal(get(0, SHA), 0);
    assert_got_everything();
    assert_int_equal(http_server_requests(server, "/f"), 1);
}

static void a_broken_connection_is_taken_up_again(void **state)
{
    (void)state;
    serve((struct http_route){.cut_at = 30000, .cut_times = 3});
    assert_int_equal(get(SIZE, SHA), 0);
    assert_got_everything();
    assert_int_equal(http_server_requests(server, "/f"), 4);
    assert_int_equal(http_server_sent(server, "/f"), SIZE); /* no byte twice */
}

static void a_server_without_ranges_starts_again(void **state)
{
    (void)state;
    serve((struct http_route){.cut_at = 30000, .cut_times = 1, .ignore_range = true});
    assert_int_equal(get(SIZE, SHA), 0);
    assert_got_everything();
    assert_int_equal(http_server_sent(server, "/f"), 30000 + SIZE);
}

static void a_part_of_other_bytes_is_thrown_away(void **state)
{
    char *other = calloc(1, 60000);

    (void)state;
    serve((struct http_route){.status = 0});
    put_part(other, 60000);
    assert_int_equal(get(SIZE, SHA), 0);
    assert_got_everything();
    assert_int_equal(http_server_requests(server, "/f"), 2);
    free(other);
}

static void a_part_that_is_too_long_is_thrown_away(void **state)
{
    char *longer = calloc(1, SIZE + 1);

    (void)state;
    serve((struct http_route){.status = 0});
    put_part(longer, SIZE + 1);
    assert_int_equal(get(SIZE, SHA), 0);
    assert_got_everything();
    free(longer);
}

static void wrong_bytes_are_refused(void **state)
{
    static char wrong[SIZE];

    (void)state;
    memcpy(wrong, bytes, SIZE);
    wrong[SIZE / 2] ^= 1;
    serve((struct http_route){.body = wrong, .size = SIZE});
    assert_int_equal(get(SIZE, SHA), -EBADMSG);
    assert_non_null(strstr(failure.text, "its sha256 is"));
    assert_nothing_there();
}

static void another_size_is_refused(void **state)
{
    (void)state;
    serve((struct http_route){.status = 0});
    assert_int_equal(get(SIZE - 1, SHA), -EBADMSG);
    assert_non_null(strstr(failure.text, "larger than its 99999 bytes"));
    assert_nothing_there();
    assert_int_equal(get(SIZE + 1, SHA), -EBADMSG);
    assert_non_null(strstr(failure.text, "has 100000 bytes, not 100001"));
    assert_nothing_there();
}

static void a_server_in_trouble_is_asked_again(void **state)
{
    (void)state;
    serve((struct http_route){.fail_first = 2});
    assert_int_equal(get(SIZE, SHA), 0);
    assert_int_equal(http_server_requests(server, "/f"), 3);
}

static void what_is_not_there_is_not_asked_for_twice(void **state)
{
    (void)state;
    serve((struct http_route){.status = 404});
    assert_int_equal(get(SIZE, SHA), -ENOENT);
    assert_non_null(strstr(failure.text, "the server answers 404"));
    assert_int_equal(http_server_requests(server, "/f"), 1);
    assert_int_equal(access(path, F_OK), -1);
}

static void an_errors_page_is_not_the_file(void **state)
{
    (void)state;
    serve((struct http_route){.status = 403, .body = "<html>", .size = 6});
    assert_int_equal(get(6, NULL), -EACCES);
    assert_int_equal(access(path, F_OK), -1);
}

static void redirections_are_followed(void **state)
{
    struct http_route route = {.path = "/g", .body = bytes, .size = SIZE};

    (void)state;
    serve((struct http_route){.moved = "/g"});
    http_server_add(server, &route);
    assert_int_equal(get(SIZE, SHA), 0);
    assert_got_everything();
}

static void local_files_are_no_place_to_go(void **state)
{
    (void)state;
    serve((struct http_route){.moved = "file:///etc/passwd"});
    assert_int_equal(get(0, NULL), -EHOSTUNREACH);
    assert_int_equal(access(path, F_OK), -1);
}

/* The disk stands for any limit: what is there is kept and used the next time. */
static void a_full_disk_keeps_what_is_there(void **state)
{
    struct rlimit limit, old;
    struct stat st;

    (void)state;
    serve((struct http_route){.status = 0});
    signal(SIGXFSZ, SIG_IGN);
    assert_return_code(getrlimit(RLIMIT_FSIZE, &old), 0);
    limit = old;
    limit.rlim_cur = 50000;
    assert_return_code(setrlimit(RLIMIT_FSIZE, &limit), 0);
    assert_int_equal(get(SIZE, SHA), -EFBIG);
    assert_return_code(setrlimit(RLIMIT_FSIZE, &old), 0);
    assert_non_null(strstr(failure.text, "cannot write"));
    assert_return_code(stat(part, &st), 0);
    assert_int_equal(st.st_size, 50000);
    assert_int_equal(get(SIZE, SHA), 0);
    assert_got_everything();
    assert_string_equal(http_server_range(server, "/f"), "bytes=50000-");
}

static void a_page_has_a_limit(void **state)
{
    struct fetch_page page = {0};
    char url[128];

    (void)state;
    serve((struct http_route){.type = "text/html"});
    snprintf(url, sizeof(url), "%s/f", http_server_url(server));
    assert_int_equal(fetch_page(fetch, url, "text/html", SIZE - 1, &page, &failure), -EMSGSIZE);
    assert_int_equal(fetch_page(fetch, url, "text/html", SIZE, &page, &failure), 0);
    assert_int_equal(page.size, SIZE);
    assert_string_equal(page.content_type, "text/html");
    assert_string_equal(page.url, url);
    fetch_page_fini(&page);
}

static void passwords_are_not_shown(void **state)
{
    char shown[64];

    (void)state;
    fetch_url_for_people("https://me:secret@host/simple/@x", shown, sizeof(shown));
    assert_string_equal(shown, "https://host/simple/@x");
    fetch_url_for_people("https://host/a", shown, sizeof(shown));
    assert_string_equal(shown, "https://host/a");
    fetch_url_for_people("https://me:secret@host", shown, 12);
    assert_string_equal(shown, "https://hos");
}

static int set_up(void **state)
{
    (void)state;
    server = http_server_start();
    return fetch_create(&fetch);
}

static int tear_down(void **state)
{
    (void)state;
    unlink(path);
    unlink(part);
    fetch_destroy(&fetch);
    http_server_stop(&server);
    return 0;
}

static int make_folder(void **state)
{
    (void)state;
    unsetenv("http_proxy");
    unsetenv("all_proxy");
    unsetenv("ALL_PROXY");
    for (size_t i = 0; i < SIZE; i++)
        bytes[i] = (char)(i * i >> 3);
    if (!mkdtemp(folder))
        return -1;
    snprintf(path, sizeof(path), "%s/file", folder);
    snprintf(part, sizeof(part), "%s.part", path);
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
        TEST(a_file_comes_whole),
        TEST(neither_size_nor_digest_need_be_known),
        TEST(it_goes_on_where_it_was_cut_off),
        TEST(what_is_complete_is_not_asked_for),
        TEST(nothing_left_to_send_is_the_end),
        TEST(a_broken_connection_is_taken_up_again),
        TEST(a_server_without_ranges_starts_again),
        TEST(a_part_of_other_bytes_is_thrown_away),
        TEST(a_part_that_is_too_long_is_thrown_away),
        TEST(wrong_bytes_are_refused),
        TEST(another_size_is_refused),
        TEST(a_server_in_trouble_is_asked_again),
        TEST(what_is_not_there_is_not_asked_for_twice),
        TEST(an_errors_page_is_not_the_file),
        TEST(redirections_are_followed),
        TEST(local_files_are_no_place_to_go),
        TEST(a_full_disk_keeps_what_is_there),
        TEST(a_page_has_a_limit),
        TEST(passwords_are_not_shown),
    };
    return cmocka_run_group_tests(tests, make_folder, delete_folder);
}
