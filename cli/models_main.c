/* The model fetcher on its own: what a container fills the shared volume with. */
#include "cli/command.h"

int main(int argc, char **argv)
{
    return models_run(argc, argv);
}
