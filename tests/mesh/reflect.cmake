# What protoc says of .proto files, for test_reflect to compare with.
dragoman_proto(proto_reflect reflect2.proto reflect3.proto)
function(descriptor_set name folder)
    set(out ${CMAKE_CURRENT_BINARY_DIR}/${name}.set)
    add_custom_command(
        OUTPUT ${out}
        COMMAND ${PROTOC_C} --proto_path=${folder} --include_imports --descriptor_set_out=${out}
                ${folder}/${name}.proto
        DEPENDS ${folder}/${name}.proto ${CMAKE_CURRENT_SOURCE_DIR}/reflect2.proto VERBATIM)
    target_sources(test_mesh_reflect PRIVATE ${out})
endfunction()
dragoman_test(test_mesh_reflect LABEL mesh SOURCES test_reflect.c LIBS mesh proto_asr proto_reflect)
target_compile_definitions(test_mesh_reflect PRIVATE DESCRIPTOR_DIR="${CMAKE_CURRENT_BINARY_DIR}")
descriptor_set(reflect3 ${CMAKE_CURRENT_SOURCE_DIR})
descriptor_set(mesh ${CMAKE_SOURCE_DIR}/proto)
descriptor_set(asr ${CMAKE_SOURCE_DIR}/proto)
