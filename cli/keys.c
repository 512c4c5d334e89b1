/* `dragoman keys`: key pairs for CURVE, and what certificates say. */
#include "base/log.h"
#include "cli/client.h"
#include "cli/command.h"
#include "mesh/certificate.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define EXIT_USAGE 2
#define PATH_MAX_BYTES 4096

static struct {
    struct config_list services;
    const char *out;
} config = {.out = "."};

static const struct config_option OPTIONS[] = {
    {"services", CONFIG_LIST, &config.services, "PATTERN",
     "new: all it may call or offer: a name, or 'dragoman.*'", NULL, 0, 0},
    {"out", CONFIG_STRING, &config.out, "DIR", "new: where the files go; or -o DIR", NULL, 0, 0},
    {NULL, 0, NULL, NULL, NULL, NULL, 0, 0},
};

/* @return 0; -EMSGSIZE: together they are too long */
static int join_services(char out[MESH_SERVICES_MAX])
{
    size_t n = 0;

    out[0] = '\0';
    for (size_t i = 0; i < config.services.count; i++) {
        int more = snprintf(out + n, MESH_SERVICES_MAX - n, "%s%s", n ? " " : "",
                            config.services.items[i]);

        if (more < 0 || (size_t)more >= MESH_SERVICES_MAX - n)
            return -EMSGSIZE;
        n += (size_t)more;
    }
    return 0;
}

static int path_of(const char *name, const char *suffix, char out[PATH_MAX_BYTES])
{
    return snprintf(out, PATH_MAX_BYTES, "%s/%s.%s", config.out, name, suffix) < PATH_MAX_BYTES
               ? 0
               : -ENAMETOOLONG;
}

/* Both files, or none. */
static int save(const struct mesh_certificate *made, const char *key, const char *certificate)
{
    char why[MESH_WHY_MAX] = "";

    if (access(certificate, F_OK) == 0)
        return client_fail("'%s' is there already, and keys are never overwritten", certificate);
    if (mkdir(config.out, 0700) < 0 && errno != EEXIST)
        return client_fail("cannot make the folder '%s': %s", config.out, strerror(errno));
    if (mesh_certificate_save(made, key, true, why) < 0)
        return client_fail("%s", why);
    if (mesh_certificate_save(made, certificate, false, why) < 0) {
        unlink(key);
        return client_fail("%s", why);
    }
    printf("%s: the key pair, for its owner alone: --key\n"
           "%s: the certificate, for those who shall trust it\n",
           key, certificate);
    return 0;
}

static int make(const char *name)
{
    char key[PATH_MAX_BYTES], certificate[PATH_MAX_BYTES];
    char services[MESH_SERVICES_MAX], why[MESH_WHY_MAX] = "";
    struct mesh_certificate made;
    int status;

    if (join_services(services) < 0) {
        fprintf(stderr, "dragoman keys: the services are longer than %d bytes together\n",
                MESH_SERVICES_MAX - 1);
        return EXIT_USAGE;
    }
    if (mesh_certificate_create(name, services, &made, why) < 0) {
        fprintf(stderr, "dragoman keys: %s\n", why);
        return EXIT_USAGE;
    }
    if (path_of(name, "key", key) < 0 || path_of(name, "cert", certificate) < 0)
        status = client_fail("the path of '%s' is too long", config.out);
    else
        status = save(&made, key, certificate);
    mesh_certificate_wipe(&made);
    return status;
}

/* Never the secret. */
static int show(const char *path)
{
    struct mesh_certificate read;
    char why[MESH_WHY_MAX] = "";
    struct stat file;
    bool secret;

    if (mesh_certificate_load(path, false, &read, why) < 0)
        return client_fail("%s", why);
    printf("name        %s\nservices    %s\npublic key  %s\n", read.name,
           read.services[0] ? read.services : "any", read.public_key);
    secret = mesh_certificate_load(path, true, &read, why) == 0;
    mesh_certificate_wipe(&read);
    if (secret)
        printf("secret key  is in this file: for its owner alone\n");
    else if (stat(path, &file) == 0 && strstr(why, "chmod"))
        fprintf(stderr, "warning: %s\n", why);
    return 0;
}

int keys_run(int argc, char **argv)
{
    const struct config_option *const tables[] = {OPTIONS, NULL};
    const struct config_spec spec = {
        .program = "dragoman keys",
        .summary =
            "Makes and shows keys for CURVE, which encrypts what processes say to each other\n"
            "and lets in only who is known. 'new NAME' writes NAME.key and NAME.cert, 'show\n"
            "FILE' tells what one of them says.",
        .operands = "new NAME | show FILE",
        .tables = tables,
    };
    int first, status;

    if (config_parse(&spec, argc, argv, &first, &status))
        return status;
    if (argc - first == 2 && strcmp(argv[first], "new") == 0)
        return make(argv[first + 1]);
    if (argc - first == 2 && strcmp(argv[first], "show") == 0)
        return show(argv[first + 1]);
    fprintf(stderr, "dragoman keys: give 'new NAME' or 'show FILE'\n");
    return EXIT_USAGE;
}
