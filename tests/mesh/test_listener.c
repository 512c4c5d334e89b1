/* Names of Unix sockets: paths and abstract ones, as libzmq understands them, and files that are not ours to take away. */
#include "mesh/listener.h"

#include "tests/mesh/ends.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static void abstract_names(void **state)
{
    char name[64], broken[200];
    struct end router, ours, libzmqs;

    (void)state;
    snprintf(name, sizeof(name), "@dragoman-test-ipc-%d", (int)getpid());
    router = ends_open(MESH_ROUTER, false, name);
    assert_int_equal(mesh_ipc_bind(router.ipc, name), -EADDRINUSE);
    ours = ends_open(MESH_DEALER, false, name);
    libzmqs = ends_open(MESH_DEALER, true, name);
    ends_meet(&router, &ours);
    ends_meet(&router, &libzmqs);
    assert_int_equal(mesh_ipc_bind(router.ipc, "@"), -EINVAL);
    assert_int_equal(mesh_ipc_bind(router.ipc, ""), -EINVAL);
    memset(broken, 'x', sizeof(broken));
    broken[sizeof(broken) - 1] = '\0';
    assert_int_equal(mesh_ipc_bind(router.ipc, broken), -ENAMETOOLONG);
    ends_close(&ours, 0);
    ends_close(&libzmqs, 0);
    ends_close(&router, 0);
}

static void two_listeners_of_one_router(void **state)
{
    struct end router = ends_open(MESH_ROUTER, false, ends_path("a"));
    struct end one, two;

    (void)state;
    assert_int_equal(mesh_ipc_bind(router.ipc, ends_path("b")), 0);
    one = ends_open(MESH_DEALER, false, ends_path("a"));
    two = ends_open(MESH_DEALER, true, ends_path("b"));
    assert_true(ends_meet(&router, &one) != ends_meet(&router, &two));
    ends_close(&one, 0);
    ends_close(&two, 0);
    ends_close(&router, 0);
    assert_int_equal(access(ends_path("a"), F_OK), -1);
    assert_int_equal(access(ends_path("b"), F_OK), -1);
}

/* A socket's file that nobody needs is taken away; a file is not, nor one that another has there by now. */
static void files_of_others_stay(void **state)
{
    struct end old = ends_open(MESH_ROUTER, false, ends_path("a"));
    struct end new = ends_open(MESH_ROUTER, false, ends_path("a"));
    int fd = open(ends_path("b"), O_CREAT | O_WRONLY, 0600);
    struct end dealer;

    (void)state;
    ends_close(&old, 0);
    dealer = ends_open(MESH_DEALER, false, ends_path("a"));
    ends_meet(&new, &dealer);
    assert_true(fd >= 0);
    assert_int_equal(mesh_ipc_bind(new.ipc, ends_path("b")), -EADDRINUSE);
    assert_int_equal(access(ends_path("b"), F_OK), 0);
    unlink(ends_path("b"));
    close(fd);
    ends_close(&dealer, 0);
    ends_close(&new, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(abstract_names),
        cmocka_unit_test(two_listeners_of_one_router),
        cmocka_unit_test(files_of_others_stay),
    };

    return cmocka_run_group_tests_name("listener", tests, ends_setup, ends_teardown);
}
