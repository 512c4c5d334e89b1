/*
 * command.h - the subcommands of `dragoman`, each in a file of its own
 *
 * A command gets the arguments behind its name (argv[0] is the name) and returns the exit status:
 * 0, 1 for failure, 2 for bad usage.
 */
#ifndef CLI_COMMAND_H
#define CLI_COMMAND_H

int interpret_run(int argc, char **argv);
int transcribe_run(int argc, char **argv);
int translate_run(int argc, char **argv);
int speak_run(int argc, char **argv);
int models_run(int argc, char **argv);
int top_run(int argc, char **argv);
int call_run(int argc, char **argv);
int keys_run(int argc, char **argv);

#endif
