/*
 * weights.h - tenants' weights as text, "gold=10,trial=1"
 */
#ifndef BROKER_WEIGHTS_H
#define BROKER_WEIGHTS_H

#include "broker/queue.h"

/**
 * @param text  NULL or "": none
 * @param out   (*n) one block: free(), names included
 * @return 0; -EINVAL: not NAME=WEIGHT, a weight that is not 1 to 1000, a name twice; -ENOMEM
 */
int weights_parse(const char *text, struct queue_weight **out, size_t *n);

#endif
