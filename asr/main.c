#include "asr/service.h"

int main(int argc, char **argv)
{
    return mesh_harness_main(&asr_service, argc, argv);
}
