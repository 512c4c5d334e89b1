/*
 * make_keys - the CURVE keys of one run: make_keys FOLDER
 *
 * broker.key and broker.cert; echo.key, for callers and workers alike, which allowed/echo.cert lets in.
 */
#include "mesh/certificate.h"

#include <stdio.h>
#include <sys/stat.h>

static int save(const struct mesh_certificate *certificate, const char *folder, const char *file,
                bool secret)
{
    char path[512], why[MESH_WHY_MAX];

    snprintf(path, sizeof(path), "%s/%s", folder, file);
    if (mesh_certificate_save(certificate, path, secret, why) == 0)
        return 0;
    fprintf(stderr, "%s\n", why);
    return -1;
}

int main(int argc, char **argv)
{
    struct mesh_certificate broker, echo;
    char why[MESH_WHY_MAX], allowed[512];

    if (argc != 2) {
        fprintf(stderr, "usage: %s FOLDER\n", argv[0]);
        return 2;
    }
    if (mesh_certificate_create("broker", "", &broker, why) < 0 ||
        mesh_certificate_create("echo", "", &echo, why) < 0) {
        fprintf(stderr, "%s\n", why);
        return 1;
    }
    snprintf(allowed, sizeof(allowed), "%s/allowed", argv[1]);
    mkdir(allowed, 0700);
    return save(&broker, argv[1], "broker.key", true) < 0 ||
           save(&broker, argv[1], "broker.cert", false) < 0 ||
           save(&echo, argv[1], "echo.key", true) < 0 ||
           save(&echo, allowed, "echo.cert", false) < 0;
}
