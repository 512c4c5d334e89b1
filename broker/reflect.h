/*
 * reflect.h - what services look like: kept as workers said, told to who asks Reflection
 */
#ifndef BROKER_REFLECT_H
#define BROKER_REFLECT_H

#include "broker/registry.h"

struct broker_core;

/** Take the description out of an offer; the last that came is the one told. */
void reflect_keep(struct service *service, Dragoman__Mesh__V1__ServiceOffer *offer);

/** All services, the broker's own among them, by name. The names stay theirs: free(out->services). */
void reflect_list(const struct broker_core *core, Dragoman__Mesh__V1__ReflectionListResponse *out);

/**
 * Describe a service or the one of a method.
 *
 * @param symbol  "package.Service" or "package.Service/Method"
 * @param set     borrowed, until the service changes or *made is freed
 * @param made    the caller's to free(); may be NULL
 * @return NULL; why there is none
 */
const char *reflect_describe(const struct broker_core *core, const char *symbol,
                             ProtobufCBinaryData *set, uint8_t **made);

#endif
