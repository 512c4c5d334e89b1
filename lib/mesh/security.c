#include "mesh/security.h"

#include "base/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static int set_key(void *socket, int option, const char *key)
{
    return zmq_setsockopt(socket, option, key, strlen(key) + 1) < 0 ? -errno : 0;
}

int mesh_security_connect(const struct mesh_security *security, void *socket)
{
    int err;

    if (!security)
        return 0;
    err = set_key(socket, ZMQ_CURVE_SERVERKEY, security->broker.public_key);
    if (err == 0)
        err = set_key(socket, ZMQ_CURVE_PUBLICKEY, security->own.public_key);
    if (err == 0)
        err = set_key(socket, ZMQ_CURVE_SECRETKEY, security->own.secret_key);
    return err;
}

int mesh_security_bind(const struct mesh_security *security, void *context, void *socket,
                       const char *domain, struct mesh_keyring *keyring, struct mesh_zap **zap)
{
    int one = 1;
    int err;

    if (!security)
        return 0;
    if (!keyring) /* libzmq would let everyone in */
        return -EINVAL;
    if (zmq_setsockopt(socket, ZMQ_CURVE_SERVER, &one, sizeof(one)) < 0)
        return -errno;
    err = set_key(socket, ZMQ_CURVE_SECRETKEY, security->own.secret_key);
    return err < 0 ? err : mesh_zap_join(context, socket, domain, keyring, zap);
}

bool mesh_security_sender(struct mesh_message *message, uint16_t *number)
{
    /* The first frame of a ROUTER's message may have lost its properties (libzmq 4.3.4). */
    zmq_msg_t *last = message->has_body ? &message->body : &message->first;
    const char *user = zmq_msg_gets(last, "User-Id");
    unsigned long value;

    if (!user) {
        *number = 0;
        return !zmq_msg_gets(last, "Peer-Address");
    }
    value = strtoul(user, NULL, 10);
    *number = (uint16_t)value;
    return value > 0 && value <= UINT16_MAX;
}

int mesh_security_load(const struct mesh_key_flags *flags, struct mesh_security *out)
{
    bool key = flags->key && *flags->key;
    bool broker_key = flags->broker_key && *flags->broker_key;
    struct mesh_security read = {0};
    char why[MESH_WHY_MAX] = "";

    if (!key && !broker_key)
        return 0;
    if (!key || !broker_key) {
        log_error("--%s needs --%s: CURVE takes one's own key pair and the broker's certificate",
                  key ? "key" : "broker-key", key ? "broker-key" : "key");
        return -EINVAL;
    }
    if (mesh_certificate_load(flags->key, true, &read.own, why) < 0) {
        log_error("--key: %s", why);
        return -EINVAL;
    }
    if (mesh_certificate_load(flags->broker_key, false, &read.broker, why) < 0) {
        log_error("--broker-key: %s", why);
        mesh_security_wipe(&read);
        return -EINVAL;
    }
    *out = read;
    mesh_certificate_wipe(&read.own);
    return 1;
}

void mesh_security_wipe(struct mesh_security *security)
{
    mesh_certificate_wipe(&security->own);
    mesh_keyring_destroy(&security->callers);
    mesh_keyring_destroy(&security->workers);
}
