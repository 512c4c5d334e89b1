/*
 * up.h - everything in one process: broker, services and gateway over inproc://
 */
#ifndef CLI_UP_H
#define CLI_UP_H

/** The subcommand: argv[0] is "dragoman up". @return the exit status */
int up_run(int argc, char **argv);

#endif
