foreach(target vits_voice vits_network clause)
    dragoman_test(fuzz_tts_${target} LABEL fuzz SOURCES tts/fuzz_${target}.c tts/mutate.c
                  LIBS tts_engine)
    target_compile_definitions(fuzz_tts_${target}
                               PRIVATE VOICES="${CMAKE_SOURCE_DIR}/tests/tts/golden")
endforeach()
