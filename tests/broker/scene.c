#include "tests/broker/scene.h"

#include "base/log.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct puppet puppet;

int scene_setup(void **state)
{
    (void)state;
    log_init("test", LOG_ERROR, LOG_FORMAT_TEXT);
    puppet_init(&puppet, (struct broker_core_options){0});
    return 0;
}

int scene_teardown(void **state)
{
    (void)state;
    puppet_fini(&puppet);
    return 0;
}

const struct seen *at_caller(uint8_t kind)
{
    return puppet_take(&puppet, BROKER_FRONT, CALLER, kind);
}

const struct seen *at_worker(uint8_t kind)
{
    return puppet_take(&puppet, BROKER_BACK, WORKER, kind);
}

void caller_got_end(uint64_t id, uint16_t status)
{
    const struct seen *end = at_caller(MESH_END);

    assert_int_equal(end->header.call_id, id);
    assert_int_equal(end->header.status, status);
}

void pair(uint32_t capacity)
{
    puppet_worker(&puppet, WORKER, "test.Echo", capacity, NULL);
    puppet_caller(&puppet, CALLER);
}

uint64_t opened(uint64_t id, struct opening opening)
{
    puppet_open(&puppet, CALLER, id, opening);
    return at_worker(MESH_OPEN)->header.call_id;
}
