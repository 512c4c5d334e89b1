#include "audio/encode.h"
#include "cli/client.h"
#include "cli/command.h"
#include "cli/events.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* What arrives, and where it goes. */
struct interpretation {
    const char *path; /* of the audio; "" for none */
    FILE *file;
    struct audio_encoder *encoder;
    uint64_t samples;
    uint32_t rate_hz;
    bool as_json;
    const char *printing; /* the heading under which text is being printed */
    bool done;
};

/* ---- audio ---- */

static int write_bytes(void *arg, const void *data, size_t size)
{
    struct interpretation *self = arg;

    if (fwrite(data, 1, size, self->file) == size)
        return 0;
    client_fail("cannot write '%s': %s", self->path, strerror(errno));
    return -EIO;
}

static int open_audio(struct interpretation *self, uint32_t rate_hz)
{
    const char *dot = strrchr(self->path, '.');
    enum audio_format format = AUDIO_WAV;

    if (dot && strcmp(dot, ".wav") != 0 && audio_format_parse(dot + 1, &format) < 0) {
        client_fail("cannot write '%s': its format is none of " AUDIO_FORMATS, self->path);
        return -EINVAL;
    }
    self->rate_hz = rate_hz;
    self->file = fopen(self->path, "wb");
    if (!self->file) {
        client_fail("cannot write '%s': %s", self->path, strerror(errno));
        return -EIO;
    }
    return audio_encoder_create(format, rate_hz, AUDIO_LENGTH_UNKNOWN, write_bytes, self,
                                &self->encoder);
}

static int sextet(char c)
{
    static const char DIGITS[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *at = c ? strchr(DIGITS, c) : NULL;

    return at ? (int)(at - DIGITS) : -1;
}

/* Base64 in place (RFC 4648), up to the first character that is none. @return bytes */
static size_t decode_base64(char *text)
{
    uint32_t bits = 0;
    size_t n = 0, n_bits = 0;

    for (size_t i = 0; sextet(text[i]) >= 0; i++) {
        bits = bits << 6 | (uint32_t)sextet(text[i]);
        n_bits += 6;
        if (n_bits >= 8) {
            n_bits -= 8;
            text[n++] = (char)(bits >> n_bits & 0xff);
        }
    }
    return n;
}

static int take_audio(struct interpretation *self, const json_t *event)
{
    const char *text = json_string_value(json_object_get(event, "audio"));
    json_int_t rate_hz = json_integer_value(json_object_get(event, "sample_rate"));
    char *pcm = text ? strdup(text) : NULL;
    size_t n;
    int err = 0;

    if (!pcm || rate_hz < 1000 || rate_hz > 192000) {
        free(pcm);
        return 0;
    }
    n = decode_base64(pcm) / sizeof(int16_t);
    self->samples += n;
    if (self->path[0] && !self->encoder)
        err = open_audio(self, (uint32_t)rate_hz);
    if (self->encoder && err == 0)
        err = audio_encoder_write(self->encoder, (const int16_t *)(const void *)pcm, n);
    free(pcm);
    return err;
}

static int close_audio(struct interpretation *self)
{
    int err = self->encoder ? audio_encoder_finish(self->encoder) : 0;

    audio_encoder_destroy(&self->encoder);
    if (self->file && fclose(self->file) != 0 && err == 0)
        err = client_fail("cannot write '%s': %s", self->path, strerror(errno));
    self->file = NULL;
    return err;
}

/* ---- text ---- */

static void print_heading(struct interpretation *self, const char *heading)
{
    if (self->printing != heading)
        printf("%s%-12s", self->printing ? "\n" : "", heading);
    self->printing = heading;
}

static void print_text(struct interpretation *self, const char *key, const json_t *event)
{
    const char *text = json_string_value(json_object_get(event, key));

    print_heading(self, key);
    printf("%s", text ? text : "");
}

/* Pieces of text arrive in turns; both texts are printed whole at the end, when they do. */
static void print_done(struct interpretation *self, const json_t *event)
{
    static const struct {
        const char *key, *text;
    } STAGES[] = {{"recognise_ms", "recognised"},
                  {"translate_ms", "translated"},
                  {"speak_ms", "spoken"},
                  {"first_audio_ms", "first sound after"},
                  {"total_ms", "all done after"}};
    const json_t *stages = json_object_get(event, "stages");
    const char *separator = "";

    print_text(self, "transcript", event);
    print_text(self, "translation", event);
    print_heading(self, "times");
    for (size_t i = 0; i < sizeof(STAGES) / sizeof(STAGES[0]); i++) {
        const json_t *ms = json_object_get(stages, STAGES[i].key);

        if (!ms)
            continue;
        printf("%s%s %.2f s", separator, STAGES[i].text, json_number_value(ms) / 1000);
        separator = ", ";
    }
    if (self->rate_hz) {
        print_heading(self, "audio");
        printf("%s (%.1f s)", self->path, (double)self->samples / self->rate_hz);
    }
    printf("\n");
}

/* On a terminal: what has been heard so far, over and over on one line. */
static void show_progress(const json_t *event)
{
    const char *text = json_string_value(json_object_get(event, "text"));

    if (text && isatty(STDERR_FILENO))
        fprintf(stderr, "\r\033[K%.70s", text);
}

static int take_event(void *arg, const char *type, json_t *event)
{
    struct interpretation *self = arg;

    if (strcmp(type, "interpret.audio") == 0)
        return take_audio(self, event);
    if (strcmp(type, "interpret.done") != 0) {
        show_progress(event);
        return 0;
    }
    if (isatty(STDERR_FILENO))
        fprintf(stderr, "\r\033[K");
    self->done = true;
    if (self->as_json) {
        json_object_del(event, "type");
        json_dumpf(event, stdout, JSON_INDENT(2));
        printf("\n");
    } else {
        print_done(self, event);
    }
    return 0;
}

int interpret_run(int argc, char **argv)
{
    struct client_options client = CLIENT_DEFAULTS;
    struct interpretation self = {.path = ""};
    struct events events;
    const char *to = "", *from = "", *voice = "", *model = "", *speed = "";
    const struct config_option table[] = {
        {"to", CONFIG_STRING, &to, "LANG", "the language wanted", NULL, 0, 0},
        {"from", CONFIG_STRING, &from, "LANG", "the language spoken; detected without it", NULL, 0,
         0},
        {"out", CONFIG_STRING, &self.path, "FILE",
         "-o: where the speech goes: .wav, .mp3, .flac, .opus, .aac or .pcm", NULL, 0, 0},
        {"voice", CONFIG_STRING, &voice, "NAME", "who speaks", NULL, 0, 0},
        {"speed", CONFIG_STRING, &speed, "X", "of the voice, 0.25 to 4", NULL, 0, 0},
        {"model", CONFIG_STRING, &model, "NAME", "the recogniser", NULL, 0, 0},
        {"json", CONFIG_BOOL, &self.as_json, NULL, "print everything as JSON", NULL, 0, 0},
        CLIENT_OPTIONS(client),
        {.name = NULL},
    };
    const struct config_option *const tables[] = {table, NULL};
    const struct config_spec spec = {
        .program = "dragoman interpret",
        .summary = "A recording in one language becomes text and speech in another.",
        .operands = "FILE",
        .tables = tables};
    int first, status, err;

    if (config_parse(&spec, argc, argv, &first, &status))
        return status;
    if (argc - first != 1 || !to[0]) {
        fprintf(stderr, "%s: %s: dragoman interpret FILE --to LANG [-o OUT.wav]\n", spec.program,
                to[0] ? "give one recording" : "--to is needed");
        return 2;
    }
    events_init(&events, take_event, &self);
    err = client_send(&client, &(struct client_request){.path = "/v1/interpret",
                                                        .file = argv[first],
                                                        .fields = {{"to", to},
                                                                   {"from", from},
                                                                   {"voice", voice},
                                                                   {"model", model},
                                                                   {"speed", speed},
                                                                   {"stream", "true"}},
                                                        .receive = events_receive,
                                                        .arg = &events});
    if (err == 0 && !self.done)
        err = -client_fail("the gateway's answer ends in the middle");
    if (close_audio(&self) != 0)
        err = -EIO;
    events_fini(&events);
    return err < 0;
}
