#include "tts/service.h"

int main(int argc, char **argv)
{
    return mesh_harness_main(&tts_service, argc, argv);
}
