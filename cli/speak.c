#include "cli/client.h"
#include "cli/command.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct output {
    const char *path;
    FILE *file; /* opened when the first byte comes: nothing is left behind by a refusal */
    size_t bytes;
};

static int write_audio(void *arg, const char *data, size_t size)
{
    struct output *output = arg;

    if (!output->file)
        output->file = strcmp(output->path, "-") == 0 ? stdout : fopen(output->path, "wb");
    if (!output->file || fwrite(data, 1, size, output->file) != size) {
        int err = -errno;

        client_fail("cannot write '%s': %s", output->path, strerror(-err));
        return err;
    }
    output->bytes += size;
    return 0;
}

/* What the file's name ends with; wav when that says nothing. */
static const char *format_of(const char *path)
{
    static const char *const FORMATS[] = {"wav", "mp3", "flac", "opus", "aac", "pcm"};
    const char *dot = strrchr(path, '.');

    for (size_t i = 0; dot && i < sizeof(FORMATS) / sizeof(FORMATS[0]); i++)
        if (strcasecmp(dot + 1, FORMATS[i]) == 0)
            return FORMATS[i];
    return dot && strcasecmp(dot, ".ogg") == 0 ? "opus" : "wav";
}

static int speak(const struct client_options *client, const char *text, const char *voice,
                 double speed, const char *path)
{
    struct output output = {.path = path};
    json_t *body = json_pack("{s:s, s:s, s:s, s:f, s:s}", "model", "tts-1", "input", text, "voice",
                             voice, "speed", speed, "response_format", format_of(path));
    int status = client_send_json(client, "/v1/audio/speech", body, write_audio, &output) < 0;

    if (output.file && fclose(output.file) != 0 && status == 0)
        status = client_fail("cannot write '%s': %s", path, strerror(errno));
    if (status == 0 && isatty(STDERR_FILENO) && strcmp(path, "-") != 0)
        fprintf(stderr, "%s: %zu KB\n", path, (output.bytes + 999) / 1000);
    return status;
}

int speak_run(int argc, char **argv)
{
    struct client_options client = CLIENT_DEFAULTS;
    const char *voice = "alloy", *out = "";
    double speed = 1;
    const struct config_option table[] = {
        {"out", CONFIG_STRING, &out, "FILE",
         "-o: .wav, .mp3, .flac, .opus, .aac or .pcm; '-' is standard output", NULL, 0, 0},
        {"voice", CONFIG_STRING, &voice, "NAME", "a voice, or a language: its first voice", NULL, 0,
         0},
        {"speed", CONFIG_DOUBLE, &speed, "X", "2: twice as fast", NULL, 0.25, 4},
        CLIENT_OPTIONS(client),
        {.name = NULL},
    };
    const struct config_option *const tables[] = {table, NULL};
    const struct config_spec spec = {.program = "dragoman speak",
                                     .summary = "Says a text; '-' reads standard input.",
                                     .operands = "TEXT|-",
                                     .tables = tables};
    int first, status;
    char *text;

    if (config_parse(&spec, argc, argv, &first, &status))
        return status;
    if (argc - first != 1 || !out[0]) {
        fprintf(stderr, "%s: %s: dragoman speak TEXT -o FILE\n", spec.program,
                out[0] ? "give one text" : "-o is needed");
        return 2;
    }
    text = client_text(argv[first]);
    status = text ? speak(&client, text, voice, speed, out) : 1;
    free(text);
    return status;
}
