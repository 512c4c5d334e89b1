/* Certificates: what is written can be read, by czmq too; what is wrong is named; nothing hostile gets through. */
#include "mesh/certificate.h"
#include "mesh/keyring.h"

#include <czmq.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define PUBLIC "Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID" /* of RFC 26's example */
#define SECRET "D:)Q[IlAW!ahhC2ac:9*A}h:p?([4%wOTJ%JR%cs"

static char folder[64];

static int setup(void **state)
{
    (void)state;
    snprintf(folder, sizeof(folder), "/tmp/dragoman-cert-XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_one(const char *path, const struct stat *stat, int type, struct FTW *where)
{
    (void)stat, (void)type, (void)where;
    return remove(path);
}

static int teardown(void **state)
{
    (void)state;
    return nftw(folder, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

static const char *path_of(const char *name)
{
    static char path[4][160];
    static unsigned turn;
    char *out = path[turn++ % 4];

    snprintf(out, sizeof(path[0]), "%s/%s", folder, name);
    return out;
}

static void write_file(const char *name, const void *text, size_t size, mode_t mode)
{
    int fd = open(path_of(name), O_WRONLY | O_CREAT | O_TRUNC, 0600);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, size), size);
    assert_int_equal(fchmod(fd, mode), 0);
    close(fd);
}

static struct mesh_certificate create(const char *name, const char *services)
{
    struct mesh_certificate made;
    char why[MESH_WHY_MAX] = "";

    if (mesh_certificate_create(name, services, &made, why) < 0)
        fail_msg("%s", why);
    return made;
}

/* ---- what is written can be read ------------------------------------------------------------- */

static void both_halves_come_back(void **state)
{
    struct mesh_certificate made = create("asr-1.home", "dragoman.asr.*, a.b.C"), read;
    char why[MESH_WHY_MAX] = "";

    (void)state;
    assert_int_equal(mesh_certificate_save(&made, path_of("x.key"), true, why), 0);
    assert_int_equal(mesh_certificate_save(&made, path_of("x.cert"), false, why), 0);
    assert_int_equal(mesh_certificate_load(path_of("x.key"), true, &read, why), 0);
    assert_memory_equal(&read, &made, sizeof(read));
    assert_int_equal(mesh_certificate_load(path_of("x.key"), false, &read, why), 0);
    assert_string_equal(read.secret_key, ""); /* who does not need it does not keep it */
    assert_int_equal(mesh_certificate_load(path_of("x.cert"), false, &read, why), 0);
    assert_string_equal(read.public_key, made.public_key);
    assert_string_equal(read.name, "asr-1.home");
    assert_string_equal(read.services, "dragoman.asr.* a.b.C");
    assert_int_equal(mesh_certificate_load(path_of("x.cert"), true, &read, why), -EINVAL);
    assert_non_null(strstr(why, "no secret-key"));
}

static void nothing_is_overwritten(void **state)
{
    struct mesh_certificate first = create("a", NULL), second = create("a", NULL), read;
    char why[MESH_WHY_MAX] = "";

    (void)state;
    assert_int_equal(mesh_certificate_save(&first, path_of("a.key"), true, why), 0);
    assert_int_equal(mesh_certificate_save(&second, path_of("a.key"), true, why), -EEXIST);
    assert_int_equal(mesh_certificate_load(path_of("a.key"), true, &read, why), 0);
    assert_string_equal(read.secret_key, first.secret_key);
}

/* czmq reads what we write: it looks for "NAME" and "NAME_secret". */
static void czmq_reads_ours(void **state)
{
    struct mesh_certificate made = create("ours", "dragoman.*");
    char why[MESH_WHY_MAX] = "";
    zcert_t *read = NULL;

    (void)state;
    assert_int_equal(mesh_certificate_save(&made, path_of("c"), false, why), 0);
    assert_int_equal(mesh_certificate_save(&made, path_of("c_secret"), true, why), 0);
    read = zcert_load(path_of("c"));
    assert_non_null(read);
    assert_string_equal(zcert_public_txt(read), made.public_key);
    assert_string_equal(zcert_secret_txt(read), made.secret_key);
    assert_string_equal(zcert_meta(read, "name"), "ours");
    assert_string_equal(zcert_meta(read, "services"), "dragoman.*");
    zcert_destroy(&read);
}

static void we_read_czmqs(void **state)
{
    char why[MESH_WHY_MAX] = "";
    struct mesh_certificate read;

    (void)state;
    for (int i = 0; i < 50; i++) { /* Z85 has all sorts of characters */
        zcert_t *made = zcert_new();

        zcert_set_meta(made, "name", "%s", "theirs");
        zcert_set_meta(made, "services", "%s", "a.b.C dragoman.tts.*");
        zcert_set_meta(made, "email", "%s", "who@example.org"); /* not ours to judge */
        assert_int_equal(zcert_save(made, path_of("z")), 0);
        assert_int_equal(mesh_certificate_load(path_of("z_secret"), true, &read, why), 0);
        assert_string_equal(read.public_key, zcert_public_txt(made));
        assert_string_equal(read.secret_key, zcert_secret_txt(made));
        assert_int_equal(mesh_certificate_load(path_of("z"), false, &read, why), 0);
        assert_string_equal(read.public_key, zcert_public_txt(made));
        assert_string_equal(read.name, "theirs");
        assert_string_equal(read.services, "a.b.C dragoman.tts.*");
        zcert_destroy(&made);
    }
}

/* ---- what is wrong is named ------------------------------------------------------------------ */

static void parse_fails(const char *text, const char *what)
{
    struct mesh_certificate read;
    char why[MESH_WHY_MAX] = "";

    assert_int_equal(mesh_certificate_parse(text, strlen(text), &read, why), -EINVAL);
    if (!strstr(why, what))
        fail_msg("'%s' does not say '%s' for:\n%s", why, what, text);
}

static void mistakes_are_named(void **state)
{
    char long_line[2048] = "curve\n    ";

    (void)state;
    parse_fails("", "no public-key");
    parse_fails("curve\n", "no public-key");
    parse_fails("public-key = \"" PUBLIC "\"\n", "no public-key"); /* in no section */
    parse_fails("curve\n    public-key = \"short\"\n", "line 2: a key");
    parse_fails("curve\n    public-key = \"~ne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID\"\n",
                "line 2: a key");
    parse_fails("curve\n    public-key = \"##########Vvi]a<NY6T1ed:M$fCG*[IaLV{hID\"\n",
                "line 2: a key"); /* more than 32 bits */
    parse_fails("curve\n    public-key = \"0000000000000000000000000000000000000000\"\n",
                "line 2: a key");
    parse_fails("curve\n    public-key = \"" PUBLIC "\"\n    public-key = \"" PUBLIC "\"\n",
                "stood there before");
    parse_fails("curve\n    public-key = \"" PUBLIC "\n", "without its end");
    parse_fails("curve\n    public-key = \"" PUBLIC "\" more\n", "behind a quoted value");
    parse_fails("curve\n  public-key = \"" PUBLIC "\"\n", "four spaces");
    parse_fails("curve\n\tpublic-key = \"" PUBLIC "\"\n", "four spaces");
    parse_fails("curve\n    public-key \"" PUBLIC "\"\n", "neither");
    parse_fails("= x\n", "not a name");
    parse_fails("metadata\n    name = \"../../etc\"\n", "line 2: a name");
    parse_fails("metadata\n    name = \"\"\n", "line 2: a name");
    parse_fails("metadata\n    services = \"a.*.b\"\n", "line 2: services");
    parse_fails("metadata\n    services = \"a b\\n\"\n", "line 2: services");
    parse_fails("curve\n    public-key = \"" PUBLIC "\"\n    secret-key = \"" PUBLIC "\"\n",
                "not the public key's");
    memset(long_line + strlen(long_line), 'x', sizeof(long_line) - strlen(long_line) - 1);
    parse_fails(long_line, "line 2: not a line");
}

static void the_standards_example_is_read(void **state)
{
    const char text[] = "# a comment\r\n"
                        "other\r\n"
                        "    anything = goes # here\r\n"
                        "        deeper\r\n"
                        "curve   # and here\r\n"
                        "    public-key = '" PUBLIC "'   # it has # in no place\r\n"
                        "    secret-key = \"" SECRET "\"";
    struct mesh_certificate read;
    char why[MESH_WHY_MAX] = "";

    (void)state;
    assert_int_equal(mesh_certificate_parse(text, sizeof(text) - 1, &read, why), 0);
    assert_string_equal(read.public_key, PUBLIC);
    assert_string_equal(read.secret_key, SECRET);
    assert_string_equal(read.name, "");
}

/* Any cut and any changed byte of a good one: read, or refused; never more. */
static void damaged_ones_do_no_harm(void **state)
{
    const char good[] = "metadata\n    name = \"asr\"\n    services = \"a.*\"\ncurve\n"
                        "    public-key = \"" PUBLIC "\"\n    secret-key = \"" SECRET "\"\n";
    struct mesh_certificate read;
    char why[MESH_WHY_MAX], text[sizeof(good)];

    (void)state;
    for (size_t size = 0; size < sizeof(good); size++) {
        char *exact = malloc(size + 1); /* a byte too far is seen by AddressSanitizer */

        memcpy(exact, good, size);
        exact = realloc(exact, size ? size : 1);
        mesh_certificate_parse(exact, size, &read, why);
        free(exact);
    }
    for (size_t at = 0; at < sizeof(good) - 1; at++) {
        for (int byte = 0; byte < 256; byte += 3) {
            memcpy(text, good, sizeof(good));
            text[at] = (char)byte;
            if (mesh_certificate_parse(text, sizeof(good) - 1, &read, why) == 0)
                assert_int_equal(strlen(read.public_key), 40);
        }
    }
}

static void files_that_are_none(void **state)
{
    struct mesh_certificate read;
    char why[MESH_WHY_MAX] = "", big[MESH_CERTIFICATE_FILE_MAX + 1];

    (void)state;
    assert_int_equal(mesh_certificate_load(path_of("none"), false, &read, why), -ENOENT);
    assert_non_null(strstr(why, "none"));
    assert_int_equal(mesh_certificate_load(folder, false, &read, why), -EINVAL);
    assert_int_equal(mkfifo(path_of("pipe"), 0600), 0);
    assert_int_equal(mesh_certificate_load(path_of("pipe"), false, &read, why), -EINVAL);
    assert_int_equal(mesh_certificate_load("/dev/zero", false, &read, why), -EINVAL);
    memset(big, '#', sizeof(big));
    write_file("big", big, sizeof(big), 0600);
    assert_int_equal(mesh_certificate_load(path_of("big"), false, &read, why), -EINVAL);
    assert_non_null(strstr(why, "at most 8192 bytes"));
}

static void a_secret_that_others_can_read_is_refused(void **state)
{
    static const mode_t modes[] = {0640, 0604, 0620, 0602, 0666, 0610};
    struct mesh_certificate made = create("a", NULL), read;
    char why[MESH_WHY_MAX] = "";

    (void)state;
    assert_int_equal(mesh_certificate_save(&made, path_of("a.key"), true, why), 0);
    for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
        assert_int_equal(chmod(path_of("a.key"), modes[i]), 0);
        assert_int_equal(mesh_certificate_load(path_of("a.key"), true, &read, why), -EPERM);
        assert_non_null(strstr(why, "chmod 600"));
    }
    assert_int_equal(chmod(path_of("a.key"), 0400), 0);
    assert_int_equal(mesh_certificate_load(path_of("a.key"), true, &read, why), 0);
}

/* ---- services -------------------------------------------------------------------------------- */

static bool match(const char *services, const char *service)
{
    return mesh_services_match(services, service, strlen(service));
}

static void patterns_match_names(void **state)
{
    (void)state;
    assert_true(match("", "anything"));
    assert_true(match("*", "anything"));
    assert_true(match("a.B", "a.B"));
    assert_false(match("a.B", "a.BC"));
    assert_false(match("a.BC", "a.B"));
    assert_true(match("x.Y a.B", "a.B"));
    assert_true(match("a.*", "a.B"));
    assert_true(match("a.*", "a."));
    assert_false(match("a.*", "a"));
    assert_false(match("a.* b.C", "ab.C"));
    assert_false(match("a.B", ""));
}

/* ---- keyrings -------------------------------------------------------------------------------- */

static uint16_t number_of(struct mesh_keyring *keyring, const struct mesh_certificate *certificate)
{
    uint8_t key[MESH_KEY_BYTES];

    assert_non_null(zmq_z85_decode(key, certificate->public_key));
    return mesh_keyring_number(keyring, key);
}

static void numbers_outlive_reloads_and_never_come_back(void **state)
{
    struct mesh_certificate a = create("a", NULL), b = create("b", "x.*");
    struct mesh_keyring *keyring = NULL;
    struct mesh_identity identity;
    char why[MESH_WHY_MAX] = "";
    uint16_t *gone = NULL, of_a, of_b;
    size_t n_gone = 9;

    (void)state;
    assert_int_equal(mesh_certificate_save(&a, path_of("a.cert"), false, why), 0);
    write_file("README", "not a certificate", 17, 0644);
    write_file(".hidden.cert", "neither", 7, 0644);
    assert_int_equal(mesh_keyring_create(folder, &keyring, why), 0);
    assert_int_equal(mesh_keyring_count(keyring), 1);
    of_a = number_of(keyring, &a);
    assert_int_not_equal(of_a, 0);
    assert_int_equal(number_of(keyring, &b), 0);

    assert_int_equal(mesh_certificate_save(&b, path_of("b.cert"), false, why), 0);
    assert_int_equal(mesh_keyring_reload(keyring, &gone, &n_gone, why), 0);
    assert_int_equal(n_gone, 0);
    of_b = number_of(keyring, &b);
    assert_int_equal(number_of(keyring, &a), of_a);
    assert_int_not_equal(of_b, of_a);
    assert_true(mesh_keyring_identity(keyring, of_b, &identity));
    assert_string_equal(identity.name, "b");
    assert_string_equal(identity.services, "x.*");

    unlink(path_of("b.cert")); /* the same key, allowed something else: somebody else */
    snprintf(b.services, sizeof(b.services), "y.*");
    assert_int_equal(mesh_certificate_save(&b, path_of("b.cert"), false, why), 0);
    assert_int_equal(mesh_keyring_reload(keyring, &gone, &n_gone, why), 0);
    assert_int_equal(n_gone, 1);
    assert_int_equal(gone[0], of_b);
    free(gone);
    assert_false(mesh_keyring_identity(keyring, of_b, &identity));
    assert_true(number_of(keyring, &b) > of_b);
    mesh_keyring_destroy(&keyring);
}

static void twins_and_strangers_are_named(void **state)
{
    struct mesh_certificate a = create("a", NULL);
    struct mesh_keyring *keyring = NULL;
    char why[MESH_WHY_MAX] = "";

    (void)state;
    assert_int_equal(mesh_keyring_create("/nowhere", &keyring, why), -ENOENT);
    assert_int_equal(mesh_certificate_save(&a, path_of("a.cert"), false, why), 0);
    snprintf(a.name, sizeof(a.name), "other");
    assert_int_equal(mesh_certificate_save(&a, path_of("b.cert"), false, why), 0);
    assert_int_equal(mesh_keyring_create(folder, &keyring, why), -EINVAL);
    assert_non_null(strstr(why, "one key"));
    assert_non_null(strstr(why, "'other'"));
    assert_null(keyring);
}

static void names_that_cannot_be(void **state)
{
    static const char *const names[] = {"", ".", "..", "-x", "a b", "a/b", "a\n", "\xc3\xa9"};
    struct mesh_certificate made;
    char why[MESH_WHY_MAX], long_name[MESH_IDENTITY_NAME_MAX + 1];

    (void)state;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        assert_int_equal(mesh_certificate_create(names[i], NULL, &made, why), -EINVAL);
    memset(long_name, 'a', MESH_IDENTITY_NAME_MAX);
    long_name[MESH_IDENTITY_NAME_MAX] = '\0';
    assert_int_equal(mesh_certificate_create(long_name, NULL, &made, why), -EINVAL);
    long_name[MESH_IDENTITY_NAME_MAX - 1] = '\0';
    assert_int_equal(mesh_certificate_create(long_name, NULL, &made, why), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(both_halves_come_back),
        TEST(nothing_is_overwritten),
        TEST(czmq_reads_ours),
        TEST(we_read_czmqs),
        TEST(mistakes_are_named),
        TEST(the_standards_example_is_read),
        TEST(damaged_ones_do_no_harm),
        TEST(files_that_are_none),
        TEST(a_secret_that_others_can_read_is_refused),
        TEST(patterns_match_names),
        TEST(numbers_outlive_reloads_and_never_come_back),
        TEST(twins_and_strangers_are_named),
        TEST(names_that_cannot_be),
    };

    zsys_handler_set(NULL); /* before anything else of czmq: signals are ours */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
