#include "cli/client.h"

#include "base/buffer.h"
#include "base/clock.h"

#include <curl/curl.h>
#include <errno.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define ERROR_BODY_MAX 65536
#define TEXT_MAX ((size_t)16 << 20)
#define URL_MAX 2048

struct transfer {
    const struct client_options *options;
    const struct client_request *request;
    CURL *curl;
    struct curl_slist *headers;
    curl_mime *form;
    struct buffer error; /* the body of an answer that is not 200 */
    int stopped;         /* what receive() returned */
};

int client_fail(const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    fprintf(stderr, "error: ");
    vfprintf(stderr, fmt, args);
    fputc('\n', stderr);
    va_end(args);
    return 1;
}

static size_t on_data(char *data, size_t size, size_t n, void *arg)
{
    struct transfer *transfer = arg;
    long status = 0;

    curl_easy_getinfo(transfer->curl, CURLINFO_RESPONSE_CODE, &status);
    if (status != 200)
        buffer_append(&transfer->error, data, size * n); /* what goes over the limit is lost */
    else if (transfer->request->receive)
        transfer->stopped = transfer->request->receive(transfer->request->arg, data, size * n);
    return transfer->stopped ? 0 : size * n;
}

/* The message inside an error of OpenAI's, EasyNMT's or LibreTranslate's shape. */
static void print_refusal(const struct transfer *transfer, long status)
{
    json_t *root = json_loadb((const char *)transfer->error.data, transfer->error.size, 0, NULL);
    json_t *error = json_object_get(root, "error");
    const char *text = json_string_value(json_object_get(error, "message"));

    if (!text)
        text = json_string_value(error);
    if (!text)
        text = json_string_value(json_object_get(root, "detail"));
    if (text && strncmp(text, "Error: ", 7) == 0) /* as EasyNMT begins all of its own */
        text += 7;
    if (text)
        client_fail("%s", text);
    else
        client_fail("%s answers with status %ld", transfer->options->server, status);
    json_decref(root);
}

static void print_trouble(const struct transfer *transfer, CURLcode code)
{
    const char *server = transfer->options->server;

    if (code == CURLE_COULDNT_CONNECT)
        client_fail("nothing answers at %s: start it with 'dragoman up', or name another --server",
                    server);
    else if (code == CURLE_PARTIAL_FILE || code == CURLE_GOT_NOTHING || code == CURLE_RECV_ERROR)
        client_fail("%s broke off in the middle: it was stopped, or the way to it was", server);
    else if (code == CURLE_READ_ERROR)
        client_fail("cannot read '%s'", transfer->request->file);
    else
        client_fail("cannot talk to %s: %s", server, curl_easy_strerror(code));
}

static int add_form(struct transfer *transfer)
{
    const struct client_request *request = transfer->request;
    curl_mimepart *part;

    transfer->form = curl_mime_init(transfer->curl);
    for (const struct client_field *field = request->fields; field->name; field++) {
        if (!field->value || !field->value[0])
            continue;
        part = curl_mime_addpart(transfer->form);
        curl_mime_name(part, field->name);
        curl_mime_data(part, field->value, CURL_ZERO_TERMINATED);
    }
    part = curl_mime_addpart(transfer->form);
    curl_mime_name(part, "file");
    if (curl_mime_filedata(part, request->file) != CURLE_OK) {
        client_fail("cannot read '%s': %s", request->file, strerror(errno));
        return -ENOENT;
    }
    curl_easy_setopt(transfer->curl, CURLOPT_MIMEPOST, transfer->form);
    return 0;
}

static int add_body(struct transfer *transfer)
{
    const struct client_request *request = transfer->request;

    if (request->json) {
        transfer->headers = curl_slist_append(transfer->headers, "Content-Type: application/json");
        curl_easy_setopt(transfer->curl, CURLOPT_POSTFIELDS, request->json);
        return 0;
    }
    return request->file ? add_form(transfer) : 0;
}

static void set_up(struct transfer *transfer)
{
    const struct client_options *options = transfer->options;
    char url[URL_MAX], header[URL_MAX];
    size_t n = strlen(options->server);

    while (n > 0 && options->server[n - 1] == '/')
        n--;
    snprintf(url, sizeof(url), "%.*s%s", (int)n, options->server, transfer->request->path);
    curl_easy_setopt(transfer->curl, CURLOPT_URL, url);
    curl_easy_setopt(transfer->curl, CURLOPT_WRITEFUNCTION, on_data);
    curl_easy_setopt(transfer->curl, CURLOPT_WRITEDATA, transfer);
    curl_easy_setopt(transfer->curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(transfer->curl, CURLOPT_CONNECTTIMEOUT, 10L);
    transfer->headers = curl_slist_append(NULL, "Expect:"); /* no waiting for 100 Continue */
    if (options->api_key[0]) {
        snprintf(header, sizeof(header), "Authorization: Bearer %s", options->api_key);
        transfer->headers = curl_slist_append(transfer->headers, header);
    }
}

/* One request, quiet: the status, or 0 when nothing came. */
static long perform(struct transfer *transfer, CURLcode *code)
{
    long status = 0;

    curl_easy_setopt(transfer->curl, CURLOPT_HTTPHEADER, transfer->headers);
    *code = curl_easy_perform(transfer->curl);
    curl_easy_getinfo(transfer->curl, CURLINFO_RESPONSE_CODE, &status);
    return status;
}

static void tear_down(struct transfer *transfer)
{
    curl_mime_free(transfer->form);
    curl_slist_free_all(transfer->headers);
    curl_easy_cleanup(transfer->curl);
    buffer_fini(&transfer->error);
}

/* Until /readyz is content, or the time is over: then the request itself says what is wrong. */
static void wait_ready(const struct client_options *options)
{
    const struct client_request request = {.path = "/readyz"};
    const struct timespec pause = {.tv_nsec = 20000000};
    int64_t end = clock_now_ms() + options->wait_s * 1000;
    long status = 0;

    while (status != 200 && clock_now_ms() < end) {
        struct transfer transfer = {.options = options, .request = &request};
        CURLcode code;

        buffer_init(&transfer.error, ERROR_BODY_MAX);
        transfer.curl = curl_easy_init();
        if (!transfer.curl)
            return;
        set_up(&transfer);
        status = perform(&transfer, &code);
        tear_down(&transfer);
        if (status != 200)
            nanosleep(&pause, NULL);
    }
}

int client_send(const struct client_options *options, const struct client_request *request)
{
    struct transfer transfer = {.options = options, .request = request};
    CURLcode code = CURLE_OK;
    long status;
    int err;

    if (request->file && access(request->file, R_OK) < 0) {
        err = -errno;
        client_fail("cannot read '%s': %s", request->file, strerror(-err));
        return err;
    }
    if (options->wait_s > 0)
        wait_ready(options);
    buffer_init(&transfer.error, ERROR_BODY_MAX);
    transfer.curl = curl_easy_init();
    if (!transfer.curl)
        return -ENOMEM;
    set_up(&transfer);
    err = add_body(&transfer);
    if (err == 0) {
        status = perform(&transfer, &code);
        if (transfer.stopped) {
            err = transfer.stopped;
        } else if (code != CURLE_OK) {
            print_trouble(&transfer, code);
            err = -ECONNREFUSED;
        } else if (status != 200) {
            print_refusal(&transfer, status);
            err = -EREMOTEIO;
        }
    }
    tear_down(&transfer);
    return err;
}

int client_send_json(const struct client_options *options, const char *path, json_t *body,
                     int (*receive)(void *arg, const char *data, size_t size), void *arg)
{
    char *json = body ? json_dumps(body, JSON_COMPACT) : NULL;
    int err = -EINVAL;

    if (json)
        err = client_send(options, &(struct client_request){
                                       .path = path, .json = json, .receive = receive, .arg = arg});
    else
        client_fail("the text is not valid UTF-8");
    free(json);
    json_decref(body);
    return err;
}

char *client_text(const char *operand)
{
    struct buffer text;
    char piece[65536];
    size_t n;

    if (strcmp(operand, "-") != 0)
        return strdup(operand);
    buffer_init(&text, TEXT_MAX);
    while ((n = fread(piece, 1, sizeof(piece), stdin)) > 0)
        if (buffer_append(&text, piece, n) < 0) {
            client_fail("the text on standard input is longer than %zu MiB", TEXT_MAX >> 20);
            buffer_fini(&text);
            return NULL;
        }
    if (buffer_append(&text, "", 1) < 0)
        buffer_fini(&text);
    return (char *)text.data;
}
