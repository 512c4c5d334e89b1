#include "translate/service.h"

int main(int argc, char **argv)
{
    return mesh_harness_main(&translate_service, argc, argv);
}
