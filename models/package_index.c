#include "models/package_index.h"

#include "models/index_page.h"
#include "models/store.h"

#include <ctype.h>
#include <curl/curl.h>
#include <errno.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE_BYTES_MAX (32u << 20)
#define ACCEPT                                                                                     \
    "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, "             \
    "text/html;q=0.1"

extern char **environ;

/* Copy without white space around it and slashes at its end. @return 0; -ENOENT: nothing is left */
static int take_url(const char *text, char *url, size_t size)
{
    size_t length;

    while (isspace((unsigned char)*text))
        text++;
    length = strcspn(text, " \t\r\n");
    while (length > 0 && text[length - 1] == '/')
        length--;
    if (length == 0 || length >= size)
        return -ENOENT;
    memcpy(url, text, length);
    url[length] = '\0';
    return 0;
}

/* "index-url = URL"; pip takes both "-" and "_", "=" and ":". @return what follows; NULL */
static const char *index_url_value(const char *line)
{
    static const char *const keys[] = {"index-url", "index_url"};

    for (size_t i = 0; i < 2; i++) {
        size_t length = strlen(keys[i]);

        if (strncasecmp(line, keys[i], length) == 0) {
            const char *rest = line + length + strspn(line + length, " \t");

            if (*rest == '=' || *rest == ':')
                return rest + 1;
        }
    }
    return NULL;
}

int package_index_from_config(const char *path, char *url, size_t size)
{
    FILE *file = fopen(path, "re");
    char line[4096];
    bool ours = false, goes_on = false;
    int err = -ENOENT;

    while (file && err && fgets(line, sizeof(line), file)) {
        const char *value = index_url_value(line);

        if (goes_on && isspace((unsigned char)line[0])) { /* the value is on a line of its own */
            err = take_url(line, url, size);
            continue;
        }
        goes_on = false;
        if (line[0] == '[')
            ours = strncmp(line, "[global]", 8) == 0 || strncmp(line, "[install]", 9) == 0 ||
                   strncmp(line, "[download]", 10) == 0;
        if (ours && value) {
            err = take_url(value, url, size);
            goes_on = err != 0;
        }
    }
    if (file)
        fclose(file);
    return err;
}

static int from_config_in(const char *folder, const char *rest, char *url, size_t size)
{
    char path[STORE_PATH_MAX];

    if (!folder || !folder[0] || store_join(path, sizeof(path), folder, rest, NULL) < 0)
        return -ENOENT;
    return package_index_from_config(path, url, size);
}

/* pip's own order: what the variable names, the virtual environment's, the user's, the system's. */
static int from_config_files(char *url, size_t size)
{
    const char *named = getenv("PIP_CONFIG_FILE");

    if (named && named[0] && package_index_from_config(named, url, size) == 0)
        return 0;
    if (named && strcmp(named, "/dev/null") == 0) /* pip's way to say: read none */
        return -ENOENT;
    if (from_config_in(getenv("VIRTUAL_ENV"), "pip.conf", url, size) == 0 ||
        from_config_in(getenv("XDG_CONFIG_HOME"), "pip/pip.conf", url, size) == 0 ||
        from_config_in(getenv("HOME"), ".config/pip/pip.conf", url, size) == 0 ||
        from_config_in(getenv("HOME"), ".pip/pip.conf", url, size) == 0 ||
        from_config_in("/etc", "xdg/pip/pip.conf", url, size) == 0)
        return 0;
    return from_config_in("/etc", "pip.conf", url, size);
}

/* Start `python3 -c PROGRAM`. @return its standard output; -errno */
static int spawn_python(pid_t *pid)
{
    static const char program[] = "from pip._internal.models.index import PyPI\n"
                                  "print(PyPI.simple_url)";
    char *argv[] = {(char *)"python3", (char *)"-c", (char *)program, NULL};
    posix_spawn_file_actions_t actions;
    int ends[2], err;

    if (pipe(ends) < 0)
        return -errno;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", 0, 0);
    posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
    posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", 1, 0);
    posix_spawn_file_actions_addclose(&actions, ends[0]);
    posix_spawn_file_actions_addclose(&actions, ends[1]);
    err = posix_spawnp(pid, argv[0], &actions, NULL, argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    close(ends[1]);
    if (err) {
        close(ends[0]);
        return -err;
    }
    return ends[0];
}

static int from_installed_pip(char *url, size_t size)
{
    char answer[2048];
    size_t length = 0;
    ssize_t got;
    pid_t pid;
    int fd, status = -1;

    fd = spawn_python(&pid);
    if (fd < 0)
        return -ENOENT;
    while (length + 1 < sizeof(answer)) {
        got = read(fd, answer + length, sizeof(answer) - 1 - length);
        if (got <= 0 && !(got < 0 && errno == EINTR))
            break;
        length += got > 0 ? (size_t)got : 0;
    }
    close(fd);
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    answer[length] = '\0';
    return status == 0 ? take_url(answer, url, size) : -ENOENT;
}

int package_index_url(const char *option, char *url, size_t size, struct failure *failure)
{
    const char *named[] = {option, getenv("DRAGOMAN_INDEX_URL"), getenv("PIP_INDEX_URL")};

    for (size_t i = 0; i < 3; i++)
        if (named[i] && take_url(named[i], url, size) == 0)
            return 0;
    if (from_config_files(url, size) == 0 || from_installed_pip(url, size) == 0)
        return 0;
    return failure_set(failure, -ENOENT,
                       "no package index is known: no pip is installed or configured here; give "
                       "its address with --index-url URL or DRAGOMAN_INDEX_URL");
}

/* A link of a page, made absolute. @return 0; -EBADMSG; -ENOMEM */
static int resolve(const char *page, const char *link, char **out)
{
    CURLU *url = curl_url();
    char *absolute = NULL;
    int err = -ENOMEM;

    if (url) {
        err = -EBADMSG;
        if (curl_url_set(url, CURLUPART_URL, page, 0) == CURLUE_OK &&
            curl_url_set(url, CURLUPART_URL, link, 0) == CURLUE_OK &&
            curl_url_get(url, CURLUPART_URL, &absolute, 0) == CURLUE_OK) {
            *out = strdup(absolute);
            err = *out ? 0 : -ENOMEM;
        }
    }
    curl_free(absolute);
    curl_url_cleanup(url);
    return err;
}

static int copy_wheel(const struct fetch_page *page, const struct index_file *file,
                      struct package_wheel *out)
{
    struct package_wheel wheel = {.size = file->size};
    int err = resolve(page->url, file->url, &wheel.url);

    if (err)
        return err;
    wheel.name = strdup(file->name);
    if (!wheel.name) {
        package_wheel_fini(&wheel);
        return -ENOMEM;
    }
    memcpy(wheel.sha256, file->sha256, sizeof(wheel.sha256));
    *out = wheel;
    return 0;
}

int package_index_find(struct fetch *fetch, const char *index_url, const char *package,
                       const char *version, struct package_wheel *out, struct failure *failure)
{
    char url[2300], name[256], shown[256];
    struct fetch_page page = {0};
    struct index_page links = {0};
    const struct index_file *file = NULL;
    int err;

    index_normalise(package, name, sizeof(name));
    snprintf(url, sizeof(url), "%s/%s/", index_url, name);
    fetch_url_for_people(url, shown, sizeof(shown));
    err = fetch_page(fetch, url, ACCEPT, PAGE_BYTES_MAX, &page, failure);
    if (err)
        return err;
    err = index_page_parse(page.body, page.size, page.content_type, &links);
    if (err) {
        failure_set(failure, err, "'%s' is no page of a package index", shown);
    } else {
        file = index_page_wheel(&links, package, version);
        err = file ? copy_wheel(&page, file, out) : -ENOENT;
        if (err)
            failure_set(failure, err, "'%s' has no wheel of version %s (%zu other files)", shown,
                        version, links.count);
    }
    index_page_fini(&links);
    fetch_page_fini(&page);
    return err;
}

void package_wheel_fini(struct package_wheel *wheel)
{
    free(wheel->name);
    free(wheel->url);
    *wheel = (struct package_wheel){0};
}
