/* The Reflection service: a broker's, from what workers say of themselves, and a server's own. */
#include "tests/mesh/rig.h"

#include "mesh/reflect.h"
#include "proto/descriptor.pb-c.h"
#include "proto/mesh.pb-c.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define REFLECTION (&dragoman__mesh__v1__reflection__descriptor)

typedef Dragoman__Mesh__V1__ReflectionListResponse list_response;
typedef Dragoman__Mesh__V1__DescribeResponse describe_response;
typedef Google__Protobuf__FileDescriptorSet file_set;

static struct status call(const struct rig *rig, const char *method,
                          const ProtobufCMessage *request, ProtobufCMessage **response)
{
    struct mesh_call_options options = {.timeout_ms = 5000};
    struct status status;

    *response = NULL;
    mesh_unary(rig->channel, REFLECTION, method, request, &options, response, &status);
    return status;
}

/* @return the set, to be freed; NULL with the status that there is instead */
static file_set *describe(const struct rig *rig, const char *symbol, struct status *status)
{
    Dragoman__Mesh__V1__DescribeRequest request = DRAGOMAN__MESH__V1__DESCRIBE_REQUEST__INIT;
    ProtobufCMessage *response = NULL;
    ProtobufCBinaryData *set;
    file_set *files;

    request.symbol = (char *)symbol;
    *status = call(rig, "Describe", &request.base, &response);
    if (!response)
        return NULL;
    set = &((describe_response *)response)->descriptor_set;
    files = google__protobuf__file_descriptor_set__unpack(NULL, set->len, set->data);
    protobuf_c_message_free_unpacked(response, NULL);
    assert_non_null(files);
    return files;
}

static bool lists(const list_response *list, const char *service)
{
    bool found = false;

    for (size_t i = 0; i < list->n_services; i++) {
        found |= strcmp(list->services[i], service) == 0;
        if (i > 0)
            assert_true(strcmp(list->services[i - 1], list->services[i]) < 0);
    }
    return found;
}

static void services_are_listed(void **state)
{
    struct rig *rig = *state;
    Dragoman__Mesh__V1__ReflectionListRequest request =
        DRAGOMAN__MESH__V1__REFLECTION_LIST_REQUEST__INIT;
    ProtobufCMessage *response;
    list_response *list;

    assert_int_equal(call(rig, "List", &request.base, &response).code, STATUS_OK);
    list = (list_response *)response;
    assert_true(lists(list, "dragoman.test.v1.Echo"));
    assert_true(lists(list, "dragoman.mesh.v1.Health"));
    assert_true(lists(list, "dragoman.mesh.v1.Reflection"));
    assert_int_equal(lists(list, "dragoman.mesh.v1.Directory"), rig->broker != NULL);
    protobuf_c_message_free_unpacked(response, NULL);
}

static const Google__Protobuf__MethodDescriptorProto *
method_of(const file_set *files, const char *service, const char *name)
{
    for (size_t i = 0; i < files->n_file; i++) {
        for (size_t j = 0; j < files->file[i]->n_service; j++) {
            const Google__Protobuf__ServiceDescriptorProto *at = files->file[i]->service[j];

            for (size_t k = 0; k < at->n_method && strcmp(at->name, service) == 0; k++) {
                if (strcmp(at->method[k]->name, name) == 0)
                    return at->method[k];
            }
        }
    }
    fail_msg("no method '%s' of '%s'", name, service);
    return NULL;
}

static void a_workers_service_is_described(void **state)
{
    static const char *const symbols[] = {"dragoman.test.v1.Echo", "dragoman.test.v1.Echo/Unary"};

    for (size_t i = 0; i < 2; i++) {
        const Google__Protobuf__MethodDescriptorProto *method;
        struct status status;
        file_set *files = describe(*state, symbols[i], &status);

        assert_non_null(files);
        method = method_of(files, "Echo", "Unary");
        assert_string_equal(method->input_type, ".dragoman.test.v1.EchoRequest");
        assert_false(method->client_streaming || method->server_streaming);
        method = method_of(files, "Echo", "Chat");
        assert_true(method->client_streaming && method->server_streaming);
        google__protobuf__file_descriptor_set__free_unpacked(files, NULL);
    }
}

static void the_meshs_own_are_described(void **state)
{
    struct status status;
    file_set *files = describe(*state, "dragoman.mesh.v1.Health/Watch", &status);

    assert_non_null(files);
    assert_true(method_of(files, "Health", "Watch")->server_streaming);
    google__protobuf__file_descriptor_set__free_unpacked(files, NULL);
    files = describe(*state, "dragoman.mesh.v1.Reflection", &status);
    assert_non_null(files);
    assert_false(method_of(files, "Reflection", "Describe")->server_streaming);
    google__protobuf__file_descriptor_set__free_unpacked(files, NULL);
}

static void what_is_not_there_is_not_found(void **state)
{
    static const char *const symbols[] = {"", "/", "no.Such", "dragoman.test.v1.Ech",
                                          "dragoman.test.v1.Echoes/Unary"};

    for (size_t i = 0; i < sizeof(symbols) / sizeof(symbols[0]); i++) {
        struct status status;

        assert_null(describe(*state, symbols[i], &status));
        assert_int_equal(status.code, STATUS_NOT_FOUND);
    }
}

/* A broker remembers, so that a tool can say what it would call. */
static void a_service_without_workers_is_still_described(void **state)
{
    struct rig *rig = *state;
    struct status status;
    file_set *files;

    if (!rig->broker)
        return;
    mesh_server_destroy(&rig->server);
    files = describe(rig, "dragoman.test.v1.Echo", &status);
    assert_non_null(files);
    google__protobuf__file_descriptor_set__free_unpacked(files, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(services_are_listed),
        cmocka_unit_test(a_workers_service_is_described),
        cmocka_unit_test(the_meshs_own_are_described),
        cmocka_unit_test(what_is_not_there_is_not_found),
        cmocka_unit_test(a_service_without_workers_is_still_described),
    };

    return rig_run("reflection", tests, sizeof(tests) / sizeof(tests[0]));
}
