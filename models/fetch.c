#include "models/fetch.h"

#include "models/digest.h"
#include "models/store.h"

#include <curl/curl.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define CONNECT_TIMEOUT_S 15L
#define SILENCE_TIMEOUT_S 30L
#define REDIRECTIONS_MAX 10L
#define ATTEMPTS 4
#define URL_SHOWN 256

struct fetch {
    CURL *curl;
    char detail[CURL_ERROR_SIZE];
};

int fetch_create(struct fetch **out)
{
    struct fetch *fetch = calloc(1, sizeof(*fetch));

    if (!fetch)
        return -ENOMEM;
    fetch->curl = curl_easy_init();
    if (!fetch->curl) {
        free(fetch);
        return -ENOMEM;
    }
    *out = fetch;
    return 0;
}

void fetch_destroy(struct fetch **fetch)
{
    if (!*fetch)
        return;
    curl_easy_cleanup((*fetch)->curl);
    free(*fetch);
    *fetch = NULL;
}

void fetch_url_for_people(const char *url, char *out, size_t size)
{
    const char *host = strstr(url, "://");
    const char *slash = host ? strchr(host + 3, '/') : NULL;
    const char *at = NULL;

    for (const char *c = host; c && *c && (!slash || c < slash); c++)
        if (*c == '@')
            at = c;
    if (at)
        snprintf(out, size, "%.*s%s", (int)(host + 3 - url), url, at + 1);
    else
        snprintf(out, size, "%s", url);
}

/* curl the program reads these variables, curl the library does not. */
static const char *certificates(void)
{
    static const char *const names[] = {"CURL_CA_BUNDLE", "SSL_CERT_FILE", "PIP_CERT"};

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        const char *path = getenv(names[i]);

        if (path && path[0])
            return path;
    }
    return NULL;
}

static void prepare(struct fetch *fetch, const char *url, struct curl_slist *headers)
{
    CURL *curl = fetch->curl;

    curl_easy_reset(curl); /* connections stay */
    fetch->detail[0] = '\0';
    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, fetch->detail);
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(curl, CURLOPT_USERAGENT, "dragoman/" DRAGOMAN_VERSION);
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(curl, CURLOPT_REDIR_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 1L);
    curl_easy_setopt(curl, CURLOPT_MAXREDIRS, REDIRECTIONS_MAX);
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT, CONNECT_TIMEOUT_S);
    curl_easy_setopt(curl, CURLOPT_LOW_SPEED_LIMIT, 1L);
    curl_easy_setopt(curl, CURLOPT_LOW_SPEED_TIME, SILENCE_TIMEOUT_S);
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    if (certificates())
        curl_easy_setopt(curl, CURLOPT_CAINFO, certificates());
}

/* What a status of the transfer or of HTTP means here. */
static int judge(struct fetch *fetch, CURLcode code, const char *url, struct failure *failure)
{
    char shown[URL_SHOWN];
    long status = 0;

    fetch_url_for_people(url, shown, sizeof(shown));
    if (code != CURLE_OK)
        return failure_set(failure, -EHOSTUNREACH, "cannot fetch '%s': %s", shown,
                           fetch->detail[0] ? fetch->detail : curl_easy_strerror(code));
    curl_easy_getinfo(fetch->curl, CURLINFO_RESPONSE_CODE, &status);
    if (status >= 200 && status < 300)
        return 0;
    failure_set(failure, -EPROTO, "cannot fetch '%s': the server answers %ld", shown, status);
    switch (status) {
    case 404:
    case 410:
        return -ENOENT;
    case 401:
    case 403:
        return -EACCES;
    default:
        return -EPROTO;
    }
}

/* Whether another try may help: a broken connection or a server in trouble, not a wrong address. */
static bool may_pass(struct fetch *fetch, CURLcode code)
{
    long status = 0;

    switch (code) {
    case CURLE_OK:
        curl_easy_getinfo(fetch->curl, CURLINFO_RESPONSE_CODE, &status);
        return status == 408 || status == 429 || status >= 500;
    case CURLE_PARTIAL_FILE:
    case CURLE_RECV_ERROR:
    case CURLE_SEND_ERROR:
    case CURLE_GOT_NOTHING:
    case CURLE_OPERATION_TIMEDOUT:
    case CURLE_HTTP2:
    case CURLE_HTTP2_STREAM:
        return true;
    default:
        return false;
    }
}

static void pause_before(int attempt)
{
    struct timespec pause = {.tv_sec = attempt / 2, .tv_nsec = attempt % 2 * 500000000L};

    nanosleep(&pause, NULL);
}

/* ---- pages ---- */

struct page_body {
    char *data;
    size_t size, limit;
    bool too_large;
};

static size_t take_page(char *data, size_t one, size_t size, void *arg)
{
    struct page_body *body = arg;
    char *grown;

    (void)one;
    if (size > body->limit - body->size) {
        body->too_large = true;
        return 0;
    }
    grown = realloc(body->data, body->size + size + 1);
    if (!grown)
        return 0;
    memcpy(grown + body->size, data, size);
    body->data = grown;
    body->size += size;
    body->data[body->size] = '\0';
    return size;
}

static int finish_page(struct fetch *fetch, struct page_body *body, const char *url,
                       struct fetch_page *out)
{
    const char *type = NULL, *final = NULL;
    struct fetch_page page = {0};

    curl_easy_getinfo(fetch->curl, CURLINFO_CONTENT_TYPE, &type);
    curl_easy_getinfo(fetch->curl, CURLINFO_EFFECTIVE_URL, &final);
    page.body = body->data ? body->data : strdup("");
    page.size = body->size;
    page.content_type = strdup(type ? type : "");
    page.url = strdup(final ? final : url);
    body->data = NULL;
    if (!page.body || !page.content_type || !page.url) {
        fetch_page_fini(&page);
        return -ENOMEM;
    }
    *out = page;
    return 0;
}

int fetch_page(struct fetch *fetch, const char *url, const char *accept, size_t limit,
               struct fetch_page *out, struct failure *failure)
{
    struct page_body body = {.limit = limit};
    struct curl_slist *headers = NULL;
    char header[256], shown[URL_SHOWN];
    CURLcode code = CURLE_OK;
    int err = 0;

    snprintf(header, sizeof(header), "Accept: %s", accept);
    headers = curl_slist_append(NULL, header);
    if (!headers)
        return failure_set(failure, -ENOMEM, "cannot fetch '%s': out of memory", url);
    for (int attempt = 0; attempt < ATTEMPTS; attempt++) {
        pause_before(attempt);
        body.size = 0;
        prepare(fetch, url, headers);
        curl_easy_setopt(fetch->curl, CURLOPT_ACCEPT_ENCODING, "");
        curl_easy_setopt(fetch->curl, CURLOPT_WRITEFUNCTION, take_page);
        curl_easy_setopt(fetch->curl, CURLOPT_WRITEDATA, &body);
        code = curl_easy_perform(fetch->curl);
        if (!may_pass(fetch, code))
            break;
    }
    if (body.too_large) {
        fetch_url_for_people(url, shown, sizeof(shown));
        err = failure_set(failure, -EMSGSIZE, "'%s' is larger than %zu bytes", shown, limit);
    }
    if (!err)
        err = judge(fetch, code, url, failure);
    if (!err && finish_page(fetch, &body, url, out) < 0)
        err = failure_set(failure, -ENOMEM, "cannot fetch '%s': out of memory", url);
    free(body.data);
    curl_slist_free_all(headers);
    return err;
}

void fetch_page_fini(struct fetch_page *page)
{
    free(page->body);
    free(page->content_type);
    free(page->url);
    *page = (struct fetch_page){0};
}

/* ---- files ---- */

struct transfer {
    CURL *curl;
    const struct fetch_file *want;
    int fd;
    uint64_t offset; /* asked for from here */
    uint64_t done;   /* bytes in the file */
    bool begun;      /* the first byte of the body has been seen */
    bool resumed;    /* the server went on at `offset` */
    bool too_large;
    int write_errno;
};

/* The answer to a request from `offset` may be the rest (206) or everything again (200). */
static int begin_body(struct transfer *transfer)
{
    long status = 0;

    curl_easy_getinfo(transfer->curl, CURLINFO_RESPONSE_CODE, &status);
    transfer->begun = true;
    transfer->resumed = status == 206;
    transfer->done = transfer->resumed ? transfer->offset : 0;
    if (ftruncate(transfer->fd, (off_t)transfer->done) < 0 ||
        lseek(transfer->fd, (off_t)transfer->done, SEEK_SET) < 0)
        return -errno;
    return 0;
}

static int write_all(int fd, const char *data, size_t size)
{
    while (size > 0) {
        ssize_t put = write(fd, data, size);

        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0)
            return -errno;
        data += put;
        size -= (size_t)put;
    }
    return 0;
}

static size_t take_file(char *data, size_t one, size_t size, void *arg)
{
    struct transfer *transfer = arg;
    long status = 0;
    int err = 0;

    (void)one;
    curl_easy_getinfo(transfer->curl, CURLINFO_RESPONSE_CODE, &status);
    if (status < 200 || status >= 300)
        return size; /* an error's page: judge() tells */
    if (!transfer->begun)
        err = begin_body(transfer);
    if (!err && transfer->want->size && size > transfer->want->size - transfer->done) {
        transfer->too_large = true;
        return 0;
    }
    if (!err)
        err = write_all(transfer->fd, data, size);
    if (err) {
        transfer->write_errno = -err;
        return 0;
    }
    transfer->done += size;
    return size;
}

static int show_progress(void *arg, curl_off_t total, curl_off_t now, curl_off_t up_total,
                         curl_off_t up_now)
{
    struct transfer *transfer = arg;
    uint64_t whole = transfer->want->size;

    (void)now;
    (void)up_total;
    (void)up_now;
    if (!whole && total > 0)
        whole = (transfer->resumed ? transfer->offset : 0) + (uint64_t)total;
    if (transfer->begun && transfer->want->progress)
        transfer->want->progress(transfer->want->arg, transfer->done, whole);
    return 0;
}

static int storage_failure(const struct transfer *transfer, const char *part,
                           struct failure *failure)
{
    if (transfer->write_errno == ENOSPC || transfer->write_errno == EDQUOT)
        return failure_set(failure, -ENOSPC,
                           "cannot write '%s': the disk is full; free some space, or name another "
                           "folder with --models DIR, and try again: what is there is kept",
                           part);
    return failure_set(failure, -transfer->write_errno, "cannot write '%s': %s", part,
                       strerror(transfer->write_errno));
}

/* One request. @return 0; 1 when another try may help (failure is set); -errno */
static int transfer_once(struct fetch *fetch, struct transfer *transfer, const char *part,
                         struct failure *failure)
{
    char range[64], shown[URL_SHOWN];
    long status = 0;
    CURLcode code;
    int err;

    prepare(fetch, transfer->want->url, NULL);
    curl_easy_setopt(fetch->curl, CURLOPT_WRITEFUNCTION, take_file);
    curl_easy_setopt(fetch->curl, CURLOPT_WRITEDATA, transfer);
    curl_easy_setopt(fetch->curl, CURLOPT_XFERINFOFUNCTION, show_progress);
    curl_easy_setopt(fetch->curl, CURLOPT_XFERINFODATA, transfer);
    curl_easy_setopt(fetch->curl, CURLOPT_NOPROGRESS, 0L);
    if (transfer->offset > 0) {
        snprintf(range, sizeof(range), "%" PRIu64 "-", transfer->offset);
        curl_easy_setopt(fetch->curl, CURLOPT_RANGE, range);
    }
    code = curl_easy_perform(fetch->curl);
    if (transfer->write_errno)
        return storage_failure(transfer, part, failure);
    if (transfer->too_large) {
        fetch_url_for_people(transfer->want->url, shown, sizeof(shown));
        return failure_set(failure, -EBADMSG, "'%s' is larger than its %" PRIu64 " bytes", shown,
                           transfer->want->size);
    }
    curl_easy_getinfo(fetch->curl, CURLINFO_RESPONSE_CODE, &status);
    if (code == CURLE_OK && status == 416 && transfer->offset > 0)
        return 0; /* nothing is left to send: the digest tells whether that is right */
    err = judge(fetch, code, transfer->want->url, failure);
    return err && may_pass(fetch, code) ? 1 : err;
}

/* Whether the bytes are the wanted ones. @return 0; -EBADMSG; -errno */
static int check_part(const struct fetch_file *want, const char *part, struct failure *failure)
{
    char hex[DIGEST_HEX + 1], shown[URL_SHOWN];
    struct stat st;
    int err;

    fetch_url_for_people(want->url, shown, sizeof(shown));
    if (stat(part, &st) < 0)
        return failure_set(failure, -errno, "cannot read '%s': %s", part, strerror(errno));
    if (want->size && (uint64_t)st.st_size != want->size)
        return failure_set(failure, -EBADMSG, "'%s' has %lld bytes, not %" PRIu64, shown,
                           (long long)st.st_size, want->size);
    if (!want->sha256)
        return 0;
    err = digest_file(part, hex);
    if (err)
        return failure_set(failure, err, "cannot read '%s': %s", part, strerror(-err));
    if (strcmp(hex, want->sha256) != 0)
        return failure_set(failure, -EBADMSG,
                           "'%s' is not what it should be: its sha256 is %.12s..., not %.12s...",
                           shown, hex, want->sha256);
    return 0;
}

/* Get everything that PATH.part lacks. @param resumed  whether bytes were there before */
static int fill_part(struct fetch *fetch, const struct fetch_file *want, const char *part, int fd,
                     bool *resumed, struct failure *failure)
{
    int err = 1;

    *resumed = false;
    for (int attempt = 0; err == 1 && attempt < ATTEMPTS; attempt++) {
        struct transfer transfer = {.curl = fetch->curl, .want = want, .fd = fd};
        struct stat st;

        if (fstat(fd, &st) < 0)
            return failure_set(failure, -errno, "cannot read '%s': %s", part, strerror(errno));
        transfer.offset = (uint64_t)st.st_size;
        if (want->size && transfer.offset > want->size)
            transfer.offset = 0; /* not ours: begin_body() cuts it */
        *resumed = transfer.offset > 0 && (*resumed || attempt == 0);
        if (want->size && transfer.offset == want->size)
            return 0;
        pause_before(attempt);
        err = transfer_once(fetch, &transfer, part, failure);
        if (err == 1 && transfer.done > transfer.offset)
            attempt = 0; /* it does move: as long as it does, go on */
    }
    return err == 1 ? -EHOSTUNREACH : err;
}

int fetch_file(struct fetch *fetch, const struct fetch_file *want, struct failure *failure)
{
    char part[STORE_PATH_MAX];
    bool resumed = false;
    int fd, err;

    if (snprintf(part, sizeof(part), "%s.part", want->path) >= (int)sizeof(part))
        return failure_set(failure, -ENAMETOOLONG, "the name is too long: '%s'", want->path);
    fd = open(part, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (fd < 0)
        return failure_set(failure, -errno, "cannot write '%s': %s", part, strerror(errno));
    err = fill_part(fetch, want, part, fd, &resumed, failure);
    if (!err)
        err = check_part(want, part, failure);
    if (err == -EBADMSG && resumed) { /* what was there may have been of another time: once anew */
        if (ftruncate(fd, 0) == 0)
            err = fill_part(fetch, want, part, fd, &resumed, failure);
        if (!err)
            err = check_part(want, part, failure);
    }
    if (!err && fdatasync(fd) < 0)
        err = failure_set(failure, -errno, "cannot write '%s': %s", part, strerror(errno));
    close(fd);
    if (!err && rename(part, want->path) < 0)
        err = failure_set(failure, -errno, "cannot write '%s': %s", want->path, strerror(errno));
    if (err == -EBADMSG)
        unlink(part);
    return err;
}
