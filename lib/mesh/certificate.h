/*
 * certificate.h - a CURVE key pair and what is known of its owner, as a file
 *
 * The format is czmq's (ZPL): a section "curve" with "public-key" and, in secret files, "secret-key",
 * both Z85; a section "metadata" with "name" and "services". Files come from outside: everything is
 * checked before it is used, and what is not understood is named with its line.
 */
#ifndef MESH_CERTIFICATE_H
#define MESH_CERTIFICATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MESH_KEY_BYTES 32
#define MESH_KEY_TEXT 41               /* Z85, with its NUL */
#define MESH_IDENTITY_NAME_MAX 64      /* with its NUL: letters, digits, '.', '_', '-' */
#define MESH_SERVICES_MAX 512          /* bytes of all patterns, with the NUL */
#define MESH_CERTIFICATE_FILE_MAX 8192 /* bytes */
#define MESH_WHY_MAX 512               /* bytes of "what failed, why, remedy" */

struct mesh_certificate {
    char public_key[MESH_KEY_TEXT];
    char secret_key[MESH_KEY_TEXT]; /* "": only the public half is here */
    char name[MESH_IDENTITY_NAME_MAX];
    char services[MESH_SERVICES_MAX]; /* patterns between spaces; "": any service */
};

/** A new key pair. @return 0; -EINVAL for a name or patterns that cannot be; -ENOSYS: libzmq has no CURVE */
int mesh_certificate_create(const char *name, const char *services, struct mesh_certificate *out,
                            char why[MESH_WHY_MAX]);

/**
 * Read one.
 *
 * @param text  (size) not ended by a NUL; borrowed
 * @param why   on error: the line and what is wrong there
 * @return 0; -EINVAL
 */
int mesh_certificate_parse(const char *text, size_t size, struct mesh_certificate *out,
                           char why[MESH_WHY_MAX]);

/**
 * Read a file; one without a name is called as the file is, without its suffix.
 *
 * @param secret  the secret half must be there, and nobody else may be able to read it; else it is
 *                neither needed nor kept
 * @param why     on error: one line for people that names the file
 * @return 0; -EINVAL; -EPERM: others can read a secret; -ENOENT, ...
 */
int mesh_certificate_load(const char *path, bool secret, struct mesh_certificate *out,
                          char why[MESH_WHY_MAX]);

/** Write a new file, readable for its owner alone when `secret`; never over one that is there.
 *  @return 0; -EEXIST; -errno */
int mesh_certificate_save(const struct mesh_certificate *certificate, const char *path, bool secret,
                          char why[MESH_WHY_MAX]);

/** Overwrite the secret. */
void mesh_certificate_wipe(struct mesh_certificate *certificate);

/**
 * Whether a service, (size) bytes, is one of these patterns: a name, or a beginning and '*'.
 *
 * @param services  patterns between spaces; "": any service
 */
bool mesh_services_match(const char *services, const char *service, size_t size);

#endif
