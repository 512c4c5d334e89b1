# dragoman_proto(TARGET FILE...): compile .proto files with protobuf-c into a static library.
# Headers are included as "<room>/<file>.pb-c.h", below the build folder.
find_program(PROTOC_C NAMES protoc-c REQUIRED)

function(dragoman_proto target)
    set(sources "")
    foreach(file ${ARGN})
        get_filename_component(base ${file} NAME_WE)
        set(out ${CMAKE_CURRENT_BINARY_DIR}/${base}.pb-c)
        add_custom_command(
            OUTPUT ${out}.c ${out}.h
            COMMAND ${PROTOC_C} --proto_path=${CMAKE_CURRENT_SOURCE_DIR}
                    --c_out=${CMAKE_CURRENT_BINARY_DIR} ${CMAKE_CURRENT_SOURCE_DIR}/${file}
            DEPENDS ${file} VERBATIM)
        list(APPEND sources ${out}.c ${out}.h)
    endforeach()
    add_library(${target} STATIC ${sources})
    target_include_directories(${target} SYSTEM PUBLIC ${CMAKE_CURRENT_BINARY_DIR})
    target_compile_options(${target} PRIVATE -w)
    target_link_libraries(${target} PUBLIC PkgConfig::protobuf-c)
endfunction()
