#include "mesh/certificate.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zmq.h>

#define INDENT 4 /* spaces of one level, as ZPL has it */
#define LINE_MAX_BYTES 1024
#define SECRET_MODE 0600
#define PUBLIC_MODE 0644

/* ---- what may stand in one ------------------------------------------------------------------- */

static bool name_is_valid(const char *name)
{
    size_t n = strlen(name);

    if (n == 0 || n >= MESH_IDENTITY_NAME_MAX || name[0] == '.' || name[0] == '-')
        return false;
    for (const char *at = name; *at; at++)
        if (!isalnum((unsigned char)*at) && !strchr("._-", *at))
            return false;
    return true;
}

/* Patterns with single spaces between them. @return false: a character that no service's name has, a '*' that is
 * not the end, or no room */
static bool take_services(const char *text, char out[MESH_SERVICES_MAX])
{
    size_t n = 0;

    for (const char *at = text; *at; at++) {
        bool gap = *at == ' ' || *at == ',' || *at == '\t';

        if (gap && (n == 0 || out[n - 1] == ' '))
            continue;
        if (!gap && !isalnum((unsigned char)*at) && !strchr("._*", *at))
            return false;
        if (!gap && n > 0 && out[n - 1] == '*')
            return false;
        if (n + 1 >= MESH_SERVICES_MAX)
            return false;
        out[n++] = gap ? ' ' : *at;
    }
    if (n > 0 && out[n - 1] == ' ')
        n--;
    out[n] = '\0';
    return n > 0;
}

static bool key_is_valid(const char *text)
{
    static const uint8_t nothing[MESH_KEY_BYTES];
    uint8_t key[MESH_KEY_BYTES];

    return strlen(text) == MESH_KEY_TEXT - 1 && zmq_z85_decode(key, text) &&
           memcmp(key, nothing, sizeof(key)) != 0;
}

bool mesh_services_match(const char *services, const char *service, size_t size)
{
    const char *at = services;

    if (!*services)
        return true;
    while (*at) {
        size_t n = strcspn(at, " ");

        if (n > 0 && at[n - 1] == '*' ? n - 1 <= size && memcmp(at, service, n - 1) == 0
                                      : n == size && memcmp(at, service, n) == 0)
            return true;
        at += n + (at[n] == ' ');
    }
    return false;
}

int mesh_certificate_create(const char *name, const char *services, struct mesh_certificate *out,
                            char why[MESH_WHY_MAX])
{
    struct mesh_certificate made = {0};

    if (!name_is_valid(name)) {
        snprintf(why, MESH_WHY_MAX, "'%.80s' is no name: up to %d letters, digits, '.', '_', '-'",
                 name, MESH_IDENTITY_NAME_MAX - 1);
        return -EINVAL;
    }
    snprintf(made.name, sizeof(made.name), "%s", name);
    if (services && *services && !take_services(services, made.services)) {
        snprintf(
            why, MESH_WHY_MAX,
            "'%.200s' are no services: names like 'dragoman.asr.v1.Recognizer', or 'dragoman.*', "
            "up to %d bytes together",
            services, MESH_SERVICES_MAX - 1);
        return -EINVAL;
    }
    if (zmq_curve_keypair(made.public_key, made.secret_key) < 0) {
        snprintf(why, MESH_WHY_MAX, "cannot make keys: libzmq was built without CURVE");
        return -ENOSYS;
    }
    *out = made;
    return 0;
}

void mesh_certificate_wipe(struct mesh_certificate *certificate)
{
    explicit_bzero(certificate->secret_key, sizeof(certificate->secret_key));
}

/* ---- reading --------------------------------------------------------------------------------- */

/* One line of ZPL: NAME, or NAME = VALUE, somewhere in the tree. */
struct line {
    unsigned level;
    char name[LINE_MAX_BYTES];
    char value[LINE_MAX_BYTES];
    bool has_value;
};

static bool is_name(char c)
{
    return isalnum((unsigned char)c) || (c && strchr("$-_@.&+/", c));
}

static const char *skip_blank(const char *at)
{
    while (*at == ' ' || *at == '\t')
        at++;
    return at;
}

/* A value, bare or between quotes. @return what is wrong; NULL: nothing */
static const char *read_value(const char *at, char *out)
{
    const char *end;
    size_t n;

    if (*at == '"' || *at == '\'') {
        end = strchr(at + 1, *at);
        if (!end)
            return "a quote without its end";
        n = (size_t)(end - at) - 1;
        memcpy(out, at + 1, n);
        out[n] = '\0';
        end = skip_blank(end + 1);
        return *end && *end != '#' ? "something behind a quoted value" : NULL;
    }
    n = strcspn(at, "#");
    while (n > 0 && (at[n - 1] == ' ' || at[n - 1] == '\t'))
        n--;
    memcpy(out, at, n);
    out[n] = '\0';
    return NULL;
}

/* @param text  ended by a NUL, under LINE_MAX_BYTES. @return what is wrong; NULL: nothing, and without a name nothing
 *              stands there */
static const char *read_line(const char *text, struct line *out)
{
    const char *at = text;
    size_t spaces = strspn(text, " ");
    size_t n = 0;

    *out = (struct line){.level = (unsigned)(spaces / INDENT)};
    at = skip_blank(text);
    if (!*at || *at == '#')
        return NULL;
    if (at != text + spaces || spaces % INDENT != 0)
        return "not indented by steps of four spaces";
    while (is_name(at[n]))
        n++;
    if (n == 0)
        return "not a name";
    memcpy(out->name, at, n);
    out->name[n] = '\0';
    at = skip_blank(at + n);
    if (!*at || *at == '#')
        return NULL;
    if (*at != '=')
        return "neither 'NAME' nor 'NAME = VALUE'";
    out->has_value = true;
    return read_value(skip_blank(at + 1), out->value);
}

/* A line within a section. @return what is wrong; NULL: nothing */
static const char *take_entry(const char *section, const struct line *line,
                              struct mesh_certificate *out)
{
    bool curve = strcmp(section, "curve") == 0;
    bool metadata = strcmp(section, "metadata") == 0;
    char *key = NULL;

    if (curve && strcmp(line->name, "public-key") == 0)
        key = out->public_key;
    else if (curve && strcmp(line->name, "secret-key") == 0)
        key = out->secret_key;
    if (key) {
        if (key[0])
            return "a key that stood there before";
        if (!key_is_valid(line->value))
            return "a key that is not 40 characters of Z85";
        memcpy(key, line->value, MESH_KEY_TEXT);
    } else if (metadata && strcmp(line->name, "name") == 0) {
        if (out->name[0] || !name_is_valid(line->value))
            return "a name that cannot be: letters, digits, '.', '_', '-'";
        memcpy(out->name, line->value, strlen(line->value) + 1);
    } else if (metadata && strcmp(line->name, "services") == 0) {
        if (out->services[0] || !take_services(line->value, out->services))
            return "services that cannot be: names of services, or a beginning and '*'";
    }
    return NULL; /* what else stands there is its owner's */
}

/* Both halves must belong together. */
static bool halves_match(const struct mesh_certificate *certificate)
{
    char derived[MESH_KEY_TEXT];

    return zmq_curve_public(derived, certificate->secret_key) == 0 &&
           strcmp(derived, certificate->public_key) == 0;
}

static const char *check_whole(const struct mesh_certificate *read)
{
    if (!read->public_key[0])
        return "there is no public-key in a section curve";
    if (read->secret_key[0] && !halves_match(read))
        return "the secret key is not the public key's";
    return NULL;
}

int mesh_certificate_parse(const char *text, size_t size, struct mesh_certificate *out,
                           char why[MESH_WHY_MAX])
{
    struct mesh_certificate read = {0};
    char section[LINE_MAX_BYTES] = "";
    char copy[LINE_MAX_BYTES];
    struct line line;
    const char *wrong = NULL;
    unsigned number = 0;

    for (size_t at = 0, n; !wrong && at < size; at += n + 1) {
        const char *end = memchr(text + at, '\n', size - at);

        n = end ? (size_t)(end - text) - at : size - at;
        number++;
        if (n >= sizeof(copy) || memchr(text + at, '\0', n)) {
            wrong = "not a line of text";
            break;
        }
        memcpy(copy, text + at, n);
        copy[n > 0 && copy[n - 1] == '\r' ? n - 1 : n] = '\0';
        wrong = read_line(copy, &line);
        if (!wrong && line.name[0] && line.level == 0)
            memcpy(section, line.name, sizeof(section));
        else if (!wrong && line.has_value && line.level == 1)
            wrong = take_entry(section, &line, &read);
    }
    if (wrong) {
        snprintf(why, MESH_WHY_MAX, "line %u: %s", number, wrong);
    } else if ((wrong = check_whole(&read))) {
        snprintf(why, MESH_WHY_MAX, "%s", wrong);
    } else {
        *out = read;
    }
    explicit_bzero(copy, sizeof(copy));
    explicit_bzero(&line, sizeof(line));
    mesh_certificate_wipe(&read);
    return wrong ? -EINVAL : 0;
}

/* ---- files ----------------------------------------------------------------------------------- */

/* Whether somebody else may read it. A group may where neither its file nor its choice is ours: orchestrators
 * hand out secrets so. */
static bool others_read(const struct stat *stat)
{
    mode_t ours = stat->st_uid == geteuid() ? 077 : 007;

    return (stat->st_mode & ours) != 0;
}

/* @return bytes read; -errno, with `why` */
static ssize_t read_file(const char *path, char *text, struct stat *stat, char why[MESH_WHY_MAX])
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    ssize_t total = 0, n = 1;
    int err = 0;

    if (fd < 0 || fstat(fd, stat) < 0) {
        err = -errno;
        snprintf(why, MESH_WHY_MAX, "cannot read '%.300s': %s", path, strerror(-err));
    } else if (!S_ISREG(stat->st_mode) || stat->st_size > MESH_CERTIFICATE_FILE_MAX) {
        err = -EINVAL;
        snprintf(why, MESH_WHY_MAX, "'%.300s' is no certificate: not a file of at most %d bytes",
                 path, MESH_CERTIFICATE_FILE_MAX);
    }
    while (err == 0 && n > 0 && total < MESH_CERTIFICATE_FILE_MAX) {
        n = read(fd, text + total, (size_t)(MESH_CERTIFICATE_FILE_MAX - total));
        if (n > 0)
            total += n;
        else if (n < 0 && errno != EINTR)
            err = -errno;
    }
    if (err < 0 && n < 0)
        snprintf(why, MESH_WHY_MAX, "cannot read '%.300s': %s", path, strerror(-err));
    if (fd >= 0)
        close(fd);
    return err < 0 ? err : total;
}

/* "folder/asr.cert" is asr's. @return whether that is a name */
static bool name_after_file(struct mesh_certificate *certificate, const char *path)
{
    const char *slash = strrchr(path, '/');
    const char *stem = slash ? slash + 1 : path;
    const char *dot = strrchr(stem, '.');
    size_t n = dot ? (size_t)(dot - stem) : strlen(stem);
    char name[MESH_IDENTITY_NAME_MAX];

    if (n >= sizeof(name))
        return false;
    memcpy(name, stem, n);
    name[n] = '\0';
    memcpy(certificate->name, name, sizeof(name));
    return name_is_valid(name);
}

int mesh_certificate_load(const char *path, bool secret, struct mesh_certificate *out,
                          char why[MESH_WHY_MAX])
{
    char text[MESH_CERTIFICATE_FILE_MAX];
    char wrong[MESH_WHY_MAX] = "";
    struct mesh_certificate read = {0};
    struct stat stat;
    ssize_t size = read_file(path, text, &stat, why);
    int err = size < 0 ? (int)size : 0;

    if (err < 0)
        return err;
    err = mesh_certificate_parse(text, (size_t)size, &read, wrong);
    explicit_bzero(text, sizeof(text));
    if (err == 0 && secret && !read.secret_key[0])
        snprintf(wrong, sizeof(wrong), "it has no secret-key: give the .key file, not the .cert");
    else if (err == 0 && !read.name[0] && !name_after_file(&read, path))
        snprintf(wrong, sizeof(wrong), "it has no name, nor is its file's one");
    if (wrong[0]) {
        snprintf(why, MESH_WHY_MAX, "'%.200s' is no certificate: %.250s", path, wrong);
        err = -EINVAL;
    } else if (secret && others_read(&stat)) {
        snprintf(why, MESH_WHY_MAX,
                 "others may read the secret key in '%.200s' (mode %03o): chmod 600 '%.200s'", path,
                 stat.st_mode & 0777, path);
        err = -EPERM;
    } else {
        if (!secret)
            mesh_certificate_wipe(&read);
        *out = read;
    }
    mesh_certificate_wipe(&read);
    return err;
}

static int print(const struct mesh_certificate *certificate, bool secret, char *text, size_t room)
{
    return snprintf(text, room,
                    "#   dragoman: a CURVE %s\n"
                    "\n"
                    "metadata\n"
                    "    name = \"%s\"\n"
                    "%s%s%s"
                    "curve\n"
                    "    public-key = \"%s\"\n"
                    "%s%s%s",
                    secret ? "key pair. Keep this file to its owner."
                           : "certificate. It holds no secret.",
                    certificate->name, certificate->services[0] ? "    services = \"" : "",
                    certificate->services, certificate->services[0] ? "\"\n" : "",
                    certificate->public_key, secret ? "    secret-key = \"" : "",
                    secret ? certificate->secret_key : "", secret ? "\"\n" : "");
}

int mesh_certificate_save(const struct mesh_certificate *certificate, const char *path, bool secret,
                          char why[MESH_WHY_MAX])
{
    char text[2048];
    int size = print(certificate, secret, text, sizeof(text));
    int fd =
        open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, secret ? SECRET_MODE : PUBLIC_MODE);
    int err = fd < 0 ? -errno : 0;

    if (err == 0 && (write(fd, text, (size_t)size) != size || fsync(fd) < 0))
        err = errno ? -errno : -EIO;
    explicit_bzero(text, sizeof(text));
    if (fd >= 0 && close(fd) < 0 && err == 0)
        err = -errno;
    if (err < 0 && fd >= 0)
        unlink(path);
    if (err == -EEXIST)
        snprintf(why, MESH_WHY_MAX, "'%.300s' is there already, and keys are never overwritten",
                 path);
    else if (err < 0)
        snprintf(why, MESH_WHY_MAX, "cannot write '%.300s': %s", path, strerror(-err));
    return err;
}
