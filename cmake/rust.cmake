# mlxcpp_rust_library(NAME MANIFEST_DIR dir LIBRARY crate_name)
#   A static library built by cargo from a locked crate, as the imported target NAME. Always in the
#   release profile: a debug build of the parsers is ten times slower and tells us nothing.
include(cargo)
if(MLXCPP_CARGO_FAULT)
  message(FATAL_ERROR "${MLXCPP_CARGO_FAULT} (Debian 12: cargo-web and rustc-web)")
endif()

function(mlxcpp_rust_library NAME)
  cmake_parse_arguments(A "" "MANIFEST_DIR;LIBRARY" "" ${ARGN})
  # The presets share one build of the crate, but for the fuzzer's: that counts covered edges, for
  # libFuzzer to see, and checks integer overflow.
  set(target_dir ${PROJECT_SOURCE_DIR}/build/rust)
  set(library ${target_dir}/release/lib${A_LIBRARY}.a)
  set(environment RUSTC=${MLXCPP_RUSTC})
  set(target)
  if(MLXCPP_FUZZ)
    # With a target named, the flags are not those of build scripts.
    execute_process(COMMAND ${MLXCPP_RUSTC} -vV OUTPUT_VARIABLE host)
    string(REGEX MATCH "host: ([^\n]+)" host "${host}")
    set(target --target ${CMAKE_MATCH_1})
    set(target_dir ${PROJECT_SOURCE_DIR}/build/rust-fuzz)
    set(library ${target_dir}/${CMAKE_MATCH_1}/release/lib${A_LIBRARY}.a)
    string(JOIN " " flags -Cdebug-assertions -Coverflow-checks -Cpasses=sancov-module
           -Cllvm-args=-sanitizer-coverage-level=4
           -Cllvm-args=-sanitizer-coverage-inline-8bit-counters
           -Cllvm-args=-sanitizer-coverage-pc-table
           -Cllvm-args=-sanitizer-coverage-trace-compares)
    list(APPEND environment "RUSTFLAGS=${flags}")
  endif()
  # Which sources it is made of, cargo itself writes down beside it. (No glob: CMake would check that at
  # each build.)
  string(REGEX REPLACE "[.]a$" ".d" dependencies ${library})
  # cargo itself takes a lock against a second build of the same folder.
  add_custom_command(
    OUTPUT ${library}
    COMMAND ${CMAKE_COMMAND} -E env ${environment} ${MLXCPP_CARGO} build --release --locked --quiet
            ${target} --target-dir ${target_dir} --manifest-path ${A_MANIFEST_DIR}/Cargo.toml
    # cargo leaves an up-to-date library untouched; ninja wants it newer than its sources.
    COMMAND ${CMAKE_COMMAND} -E touch ${library}
    DEPENDS ${A_MANIFEST_DIR}/Cargo.toml ${A_MANIFEST_DIR}/Cargo.lock
    DEPFILE ${dependencies}
    COMMENT "Building Rust crate ${A_LIBRARY}"
    USES_TERMINAL VERBATIM)
  add_custom_target(${NAME}_cargo DEPENDS ${library})
  add_library(${NAME} STATIC IMPORTED GLOBAL)
  set_target_properties(${NAME} PROPERTIES IMPORTED_LOCATION ${library})
  target_link_libraries(${NAME} INTERFACE Threads::Threads ${CMAKE_DL_LIBS} m)
  add_dependencies(${NAME} ${NAME}_cargo)
endfunction()
