#include "mesh/identity.h"

#include "mesh/certificate.h"
#include "mesh/message.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define BODY_MAX 256 /* bytes */

typedef Dragoman__Mesh__V1__Identity identity_message;

static int grow(struct mesh_identities *identities, size_t n)
{
    char **names = realloc(identities->names, n * sizeof(*names));

    if (!names)
        return -ENOMEM;
    memset(names + identities->n_names, 0, (n - identities->n_names) * sizeof(*names));
    identities->names = names;
    identities->n_names = n;
    return 0;
}

static int learn(struct mesh_identities *identities, const identity_message *said)
{
    char *name;

    if (said->number == 0 || said->number > UINT16_MAX || !said->name[0] ||
        strlen(said->name) >= MESH_IDENTITY_NAME_MAX)
        return -EBADMSG;
    if (said->number >= identities->n_names && grow(identities, said->number + 16) < 0)
        return -ENOMEM;
    name = strdup(said->name);
    if (!name)
        return -ENOMEM;
    free(identities->names[said->number]);
    identities->names[said->number] = name;
    return 0;
}

int mesh_identities_learn(struct mesh_identities *identities, const struct mesh_frame *frame)
{
    ProtobufCMessage *body = NULL;
    int err = mesh_frame_unpack(frame, &dragoman__mesh__v1__identity__descriptor, BODY_MAX, &body);

    if (err < 0)
        return err == -ENOMEM ? err : -EBADMSG;
    err = learn(identities, (const identity_message *)body);
    protobuf_c_message_free_unpacked(body, NULL);
    return err;
}

const char *mesh_identities_name(const struct mesh_identities *identities, uint16_t number)
{
    return number < identities->n_names ? identities->names[number] : NULL;
}

void mesh_identities_forget(struct mesh_identities *identities)
{
    for (size_t i = 0; i < identities->n_names; i++)
        free(identities->names[i]);
    free(identities->names);
    *identities = (struct mesh_identities){0};
}
