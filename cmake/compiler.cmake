# How every file of the tree is compiled.
set(CMAKE_C_STANDARD 17)
set(CMAKE_C_STANDARD_REQUIRED ON)
set(CMAKE_CXX_STANDARD 17)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_C_FLAGS_RELWITHDEBINFO "-O3 -g")
set(CMAKE_CXX_FLAGS_RELWITHDEBINFO "-O3 -g")

add_compile_options(-Wall -Wextra -Werror -Wshadow -Wpointer-arith -Wvla -Wundef
                    $<$<COMPILE_LANGUAGE:C>:-Wstrict-prototypes>
                    $<$<COMPILE_LANGUAGE:C>:-Wmissing-prototypes>
                    $<$<COMPILE_LANGUAGE:C>:-Wold-style-definition>
                    -fno-strict-aliasing -fstack-protector-strong)
add_compile_definitions(_GNU_SOURCE DRAGOMAN_VERSION="${PROJECT_VERSION}")
# The root names rooms ("asr/whisper/mel.h"); lib/ holds the shared ones ("compute/gemm.h").
include_directories(${CMAKE_SOURCE_DIR} ${CMAKE_SOURCE_DIR}/lib ${CMAKE_BINARY_DIR})

set(DRAGOMAN_SANITIZE "" CACHE STRING "sanitizers, as -fsanitize= takes them")
if(DRAGOMAN_SANITIZE)
    add_compile_options(-fsanitize=${DRAGOMAN_SANITIZE} -fno-omit-frame-pointer
                        -fno-sanitize-recover=all)
    add_link_options(-fsanitize=${DRAGOMAN_SANITIZE})
endif()

find_program(CCACHE ccache)
if(CCACHE)
    set(CMAKE_C_COMPILER_LAUNCHER ${CCACHE})
    set(CMAKE_CXX_COMPILER_LAUNCHER ${CCACHE})
endif()
