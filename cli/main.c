#include "cli/command.h"
#include "cli/up.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

static const struct command {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *summary;
} COMMANDS[] = {
    {"up", up_run,
     "run everything in this process: HTTP, broker, recognisers, translators, voices"},
    {"interpret", interpret_run, "a recording in one language becomes speech in another"},
    {"transcribe", transcribe_run, "a recording becomes text"},
    {"translate", translate_run, "text becomes text in another language"},
    {"speak", speak_run, "text becomes speech"},
    {"models", models_run, "list, pull, verify and remove models"},
    {"top", top_run, "watch a broker: its services, workers and queues"},
    {"call", call_run, "call any method of any service: JSON in, JSON out"},
    {"keys", keys_run, "make keys for CURVE, and show what certificates say"},
};

#define N_COMMANDS (sizeof(COMMANDS) / sizeof(COMMANDS[0]))

static void print_help(void)
{
    printf("Usage: dragoman COMMAND [OPTIONS] ...\n"
           "Speech in one language goes in, speech in another comes out.\n\n");
    for (size_t i = 0; i < N_COMMANDS; i++)
        printf("  %-12s%s\n", COMMANDS[i].name, COMMANDS[i].summary);
    printf("\nThe first time:\n"
           "  dragoman models pull --default\n"
           "  dragoman up\n"
           "and in another terminal:\n"
           "  dragoman interpret talk.wav --to pt -o talk-pt.wav\n"
           "\n'dragoman COMMAND --help' tells more about each.\n");
}

static const struct command *find(const char *name)
{
    for (size_t i = 0; i < N_COMMANDS; i++)
        if (strcmp(name, COMMANDS[i].name) == 0)
            return &COMMANDS[i];
    return NULL;
}

static bool is_help(const char *word)
{
    return strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0 || strcmp(word, "help") == 0;
}

/* "-o" is short for "--out", everywhere. */
static void lengthen(int argc, char **argv)
{
    static char out[] = "--out";

    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++)
        if (strcmp(argv[i], "-o") == 0)
            argv[i] = out;
}

int main(int argc, char **argv)
{
    static char help[] = "--help";
    const struct command *command;
    const char *name = argc > 1 ? argv[1] : help;

    if (is_help(name) && argc > 2) { /* "help up" is "up --help" */
        name = argv[2];
        argv[1] = argv[2];
        argv[2] = help;
    }
    if (is_help(name)) {
        print_help();
        return argc < 2 ? 2 : 0;
    }
    if (strcmp(name, "--version") == 0) {
        printf("dragoman " DRAGOMAN_VERSION "\n");
        return 0;
    }
    command = find(name);
    if (!command) {
        fprintf(stderr, "dragoman: there is no command '%s': 'dragoman --help' lists them\n", name);
        return 2;
    }
    lengthen(argc - 1, argv + 1);
    return command->run(argc - 1, argv + 1);
}
