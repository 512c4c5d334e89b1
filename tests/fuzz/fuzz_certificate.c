/*
 * Bytes as a certificate: read or refused, and what is read is what its fields promise.
 *
 *   input = the file
 */
#include "mesh/certificate.h"
#include "tests/fuzz/replay.h"

#include <stdlib.h>
#include <string.h>

const unsigned fuzz_rounds = 200000;

#define PUBLIC "Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID"
#define SECRET "D:)Q[IlAW!ahhC2ac:9*A}h:p?([4%wOTJ%JR%cs"
#define SEED(text)                                                                                 \
    {                                                                                              \
        NULL, text, sizeof(text) - 1                                                               \
    }

const struct fuzz_seed fuzz_seeds[] = {
    SEED("metadata\n    name = \"asr\"\n    services = \"dragoman.asr.* a.b.C\"\ncurve\n"
         "    public-key = \"" PUBLIC "\"\n    secret-key = \"" SECRET "\"\n"),
    SEED("# comment\r\ncurve\r\n    public-key = '" PUBLIC
         "' # more\r\nother\r\n        deep = x\r\n"),
    SEED("metadata\n    name = bare\n    services = x.*\n"),
    {NULL, NULL, 0},
};

void fuzz_one(const uint8_t *data, size_t size)
{
    char why[MESH_WHY_MAX] = "";
    struct mesh_certificate read;

    if (size > MESH_CERTIFICATE_FILE_MAX)
        return;
    if (mesh_certificate_parse((const char *)data, size, &read, why) == 0) {
        if (strlen(read.public_key) != MESH_KEY_TEXT - 1 ||
            strlen(read.name) >= MESH_IDENTITY_NAME_MAX ||
            strlen(read.services) >= MESH_SERVICES_MAX)
            abort();
        mesh_services_match(read.services, (const char *)data, size);
    } else if (!why[0] || memchr(why, '\0', sizeof(why)) == NULL) {
        abort(); /* a refusal says why */
    }
}
