#include "base/buffer.h"
#include "cli/client.h"
#include "cli/command.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ANSWER_MAX ((size_t)64 << 20)

static int keep(void *arg, const char *data, size_t size)
{
    return buffer_append(arg, data, size);
}

static int print_translation(const struct buffer *answer)
{
    json_t *root = json_loadb((const char *)answer->data, answer->size, 0, NULL);
    const char *text = json_string_value(json_object_get(root, "translated"));

    if (text) /* standard input ends with a newline, an operand does not */
        printf("%s%s", text, text[0] && text[strlen(text) - 1] == '\n' ? "" : "\n");
    else
        client_fail("the gateway's answer has no translation");
    json_decref(root);
    return text ? 0 : 1;
}

static int translate(const struct client_options *client, const char *text, const char *from,
                     const char *to, int64_t beam)
{
    json_t *body = json_pack("{s:s, s:s, s:s, s:I}", "text", text, "source_lang", from,
                             "target_lang", to, "beam_size", (json_int_t)beam);
    struct buffer answer;
    int status = 1;

    buffer_init(&answer, ANSWER_MAX);
    if (client_send_json(client, "/translate", body, keep, &answer) == 0)
        status = print_translation(&answer);
    buffer_fini(&answer);
    return status;
}

int translate_run(int argc, char **argv)
{
    struct client_options client = CLIENT_DEFAULTS;
    const char *from = "", *to = "";
    int64_t beam = 0;
    const struct config_option table[] = {
        {"to", CONFIG_STRING, &to, "LANG", "the language wanted", NULL, 0, 0},
        {"from", CONFIG_STRING, &from, "LANG", "the text's language; detected without it", NULL, 0,
         0},
        {"beam-size", CONFIG_INT, &beam, "N",
         "translations weighed at a time; 0: as the model does best", NULL, 0, 16},
        CLIENT_OPTIONS(client),
        {.name = NULL},
    };
    const struct config_option *const tables[] = {table, NULL};
    const struct config_spec spec = {.program = "dragoman translate",
                                     .summary = "Translates text; '-' reads standard input.",
                                     .operands = "TEXT|-",
                                     .tables = tables};
    int first, status;
    char *text;

    if (config_parse(&spec, argc, argv, &first, &status))
        return status;
    if (argc - first != 1 || !to[0]) {
        fprintf(stderr, "%s: %s: dragoman translate --to LANG TEXT\n", spec.program,
                to[0] ? "give one text" : "--to is needed");
        return 2;
    }
    text = client_text(argv[first]);
    status = text ? translate(&client, text, from, to, beam) : 1;
    free(text);
    return status;
}
