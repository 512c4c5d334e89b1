#include "cli/client.h"
#include "cli/command.h"
#include "cli/events.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

struct transcription {
    bool begun; /* something has been printed */
    bool done;
};

static int print(void *arg, const char *data, size_t size)
{
    (void)arg;
    return fwrite(data, 1, size, stdout) == size && fflush(stdout) == 0 ? 0 : -EIO;
}

/* Text as it is recognised. The models begin each segment with a space. */
static int take_event(void *arg, const char *type, json_t *event)
{
    struct transcription *self = arg;
    const char *delta = json_string_value(json_object_get(event, "delta"));

    if (strcmp(type, "transcript.text.done") == 0) {
        self->done = true;
        return print(NULL, "\n", 1);
    }
    if (!delta)
        return 0;
    if (!self->begun)
        delta += strspn(delta, " ");
    self->begun = self->begun || *delta;
    return print(NULL, delta, strlen(delta));
}

/* Plain text streams; the other formats are whole documents. */
static int send_streaming(const struct client_options *client, struct client_request *request)
{
    struct transcription self = {.begun = false};
    struct events events;
    int status;

    events_init(&events, take_event, &self);
    request->receive = events_receive;
    request->arg = &events;
    status = client_send(client, request) < 0;
    events_fini(&events);
    if (status == 0 && !self.done)
        status = client_fail("the gateway's answer ends in the middle");
    return status;
}

static int transcribe(const struct client_options *client, const char *file, bool english,
                      const char *format, const char *language, const char *model,
                      const char *prompt)
{
    bool streaming = !english && strcmp(format, "text") == 0;
    struct client_request request = {.path = english ? "/v1/audio/translations"
                                                     : "/v1/audio/transcriptions",
                                     .file = file,
                                     .fields = {{"model", model},
                                                {"language", english ? NULL : language},
                                                {"response_format", streaming ? "json" : format},
                                                {"prompt", prompt},
                                                {"stream", streaming ? "true" : NULL}},
                                     .receive = print};

    return streaming ? send_streaming(client, &request) : client_send(client, &request) < 0;
}

int transcribe_run(int argc, char **argv)
{
    struct client_options client = CLIENT_DEFAULTS;
    const char *language = "", *model = "whisper-1", *format = "text", *prompt = "";
    bool english = false;
    const struct config_option table[] = {
        {"language", CONFIG_STRING, &language, "LANG", "the language spoken; detected without it",
         NULL, 0, 0},
        {"english", CONFIG_BOOL, &english, NULL, "write English, whatever is spoken", NULL, 0, 0},
        {"format", CONFIG_CHOICE, &format, "FORMAT", "of what is printed",
         "text|json|verbose_json|srt|vtt", 0, 0},
        {"model", CONFIG_STRING, &model, "NAME", "the recogniser; whisper-1 is any", NULL, 0, 0},
        {"prompt", CONFIG_STRING, &prompt, "TEXT", "what came before: spelling and style", NULL, 0,
         0},
        CLIENT_OPTIONS(client),
        {.name = NULL},
    };
    const struct config_option *const tables[] = {table, NULL};
    const struct config_spec spec = {.program = "dragoman transcribe",
                                     .summary = "Turns a recording into text.",
                                     .operands = "FILE",
                                     .tables = tables};
    int first, status;

    if (config_parse(&spec, argc, argv, &first, &status))
        return status;
    if (argc - first != 1) {
        fprintf(stderr, "%s: give one recording: dragoman transcribe FILE\n", spec.program);
        return 2;
    }
    return transcribe(&client, argv[first], english, format, language, model, prompt);
}
