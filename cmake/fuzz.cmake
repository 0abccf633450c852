# mlxcpp_fuzz(NAME SOURCES ... [DEPENDS ...]): a libFuzzer program fuzz_NAME; its seeds lie in fuzz/corpus/NAME.
#   build/fuzz/bin/fuzz_NAME -max_total_time=60 FOLDER_FOR_FINDS fuzz/corpus/NAME
# The libraries are instrumented by the preset's MLXCPP_SANITIZE (fuzzer-no-link).
function(mlxcpp_fuzz NAME)
  cmake_parse_arguments(A "" "" "SOURCES;DEPENDS" ${ARGN})
  add_executable(fuzz_${NAME} ${A_SOURCES})
  target_include_directories(fuzz_${NAME} PRIVATE ${PROJECT_SOURCE_DIR})
  target_link_libraries(fuzz_${NAME} PRIVATE ${A_DEPENDS})
  target_link_options(fuzz_${NAME} PRIVATE -fsanitize=fuzzer)
  target_precompile_headers(fuzz_${NAME} REUSE_FROM mlxcpp_pch)
endfunction()
