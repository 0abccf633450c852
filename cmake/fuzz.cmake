# mlxcpp_fuzz(NAME SOURCES ... [DEPENDS ...]): a program fuzz_NAME from LLVMFuzzerTestOneInput; its seeds lie in
# fuzz/corpus/NAME. In the fuzz preset it is libFuzzer's:
#   build/fuzz/bin/fuzz_NAME -max_total_time=60 FOLDER_FOR_FINDS fuzz/corpus/NAME
# Everywhere else it is a test: the seeds and mutations of them, always the same (fuzz/driver.cpp).
# The libraries are instrumented by the preset's MLXCPP_SANITIZE (fuzzer-no-link).
function(mlxcpp_fuzz NAME)
  cmake_parse_arguments(A "" "" "SOURCES;DEPENDS" ${ARGN})
  add_executable(fuzz_${NAME} ${A_SOURCES})
  target_include_directories(fuzz_${NAME} PRIVATE ${PROJECT_SOURCE_DIR})
  target_link_libraries(fuzz_${NAME} PRIVATE ${A_DEPENDS})
  target_precompile_headers(fuzz_${NAME} REUSE_FROM mlxcpp_pch)
  if(MLXCPP_FUZZ)
    target_link_options(fuzz_${NAME} PRIVATE -fsanitize=fuzzer)
  else()
    target_sources(fuzz_${NAME} PRIVATE driver.cpp)
    set_target_properties(fuzz_${NAME} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
    add_test(NAME fuzz.${NAME} COMMAND fuzz_${NAME} ${PROJECT_SOURCE_DIR}/fuzz/corpus/${NAME})
    set_tests_properties(fuzz.${NAME} PROPERTIES TIMEOUT 600)
  endif()
endfunction()
