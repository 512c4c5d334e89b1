/*
 * scene.h - one core, one caller, one or two workers: where most tests of the core take place
 */
#ifndef TESTS_BROKER_SCENE_H
#define TESTS_BROKER_SCENE_H

#include "tests/broker/puppet.h"

#define CALLER 100
#define OTHER 101
#define WORKER 200
#define SECOND 201

extern struct puppet puppet;

/** For cmocka. */
int scene_setup(void **state);
int scene_teardown(void **state);

/** What was sent next to the caller, to the worker. */
const struct seen *at_caller(uint8_t kind);
const struct seen *at_worker(uint8_t kind);
void caller_got_end(uint64_t id, uint16_t status);

/** One of each, with so many slots. */
void pair(uint32_t capacity);
/** A call that the worker gets. @return its id there */
uint64_t opened(uint64_t id, struct opening opening);

#endif
