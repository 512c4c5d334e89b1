#include "cli/client.h"
#include "cli/command.h"

#include <errno.h>
#include <stdio.h>

static int print(void *arg, const char *data, size_t size)
{
    (void)arg;
    return fwrite(data, 1, size, stdout) == size && fflush(stdout) == 0 ? 0 : -EIO;
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
        {"model", CONFIG_STRING, &model, "NAME", "the recogniser", NULL, 0, 0},
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
    return client_send(&client,
                       &(struct client_request){.path = english ? "/v1/audio/translations"
                                                                : "/v1/audio/transcriptions",
                                                .file = argv[first],
                                                .fields = {{"model", model},
                                                           {"language", english ? NULL : language},
                                                           {"response_format", format},
                                                           {"prompt", prompt}},
                                                .receive = print}) < 0;
}
