# Libraries from outside; docs/dependencies.md gives the reason for each.
find_package(PkgConfig REQUIRED)
find_package(Threads REQUIRED)

function(dragoman_find name package)
    pkg_check_modules(${name} REQUIRED IMPORTED_TARGET ${package})
endfunction()

dragoman_find(zmq libzmq>=4.3)
dragoman_find(protobuf-c libprotobuf-c>=1.4)
dragoman_find(lz4 liblz4)
dragoman_find(xxhash libxxhash)
dragoman_find(websockets libwebsockets>=4.1)
dragoman_find(jansson jansson)
dragoman_find(sndfile sndfile)
dragoman_find(mpg123 libmpg123)
dragoman_find(vorbisfile vorbisfile)
dragoman_find(soxr soxr)
dragoman_find(vo-aacenc vo-aacenc)
dragoman_find(sentencepiece sentencepiece)
dragoman_find(espeak-ng espeak-ng)
dragoman_find(utf8proc libutf8proc)
dragoman_find(curl libcurl)
dragoman_find(zip libzip)
dragoman_find(zlib zlib)
dragoman_find(crypto libcrypto)
dragoman_find(cmocka cmocka)

# OpenBLAS statically: what lib/compute/openblas.c tells it must come before its own constructor.
find_library(OPENBLAS_STATIC NAMES libopenblas.a REQUIRED)
add_library(openblas STATIC IMPORTED GLOBAL)
set_target_properties(openblas PROPERTIES IMPORTED_LOCATION ${OPENBLAS_STATIC}
                      INTERFACE_LINK_LIBRARIES "Threads::Threads;m")
