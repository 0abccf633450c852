# Which cargo and rustc build the Rust crate: the first pair on PATH that works and is new enough. A
# rustup without a toolchain leaves programs there that only complain; a distribution's are often old.
# Included, it sets MLXCPP_CARGO and MLXCPP_RUSTC, or MLXCPP_CARGO_FAULT with one line that says what
# was found. Run alone (cmake -P), as mlx-run does, it prints that line, or nothing.
set(MLXCPP_CARGO_MINIMUM 1.85)

function(mlxcpp_new_enough RESULT PROGRAM)
  execute_process(COMMAND ${PROGRAM} --version
    RESULT_VARIABLE status OUTPUT_VARIABLE output ERROR_VARIABLE output)
  if(status EQUAL 0 AND output MATCHES "^(cargo|rustc) ([0-9.]+)" AND
     CMAKE_MATCH_2 VERSION_GREATER_EQUAL MLXCPP_CARGO_MINIMUM)
    return()
  endif()
  set(${RESULT} FALSE PARENT_SCOPE)
  string(REGEX REPLACE "\n.*" "" output "${output}")
  string(REPLACE ";" "," output "${output}")
  set_property(GLOBAL APPEND PROPERTY MLXCPP_CARGO_REFUSED "${PROGRAM} says '${output}'")
endfunction()

set(_only_path NO_CACHE NO_CMAKE_PATH NO_CMAKE_ENVIRONMENT_PATH NO_CMAKE_SYSTEM_PATH)
unset(MLXCPP_CARGO_FAULT)
foreach(_program cargo rustc)
  string(TOUPPER MLXCPP_${_program} _variable)
  unset(${_variable})
  if(MLXCPP_CARGO_FAULT)
    break()
  endif()
  set_property(GLOBAL PROPERTY MLXCPP_CARGO_REFUSED)
  # rustc: the one beside that cargo before any other
  get_filename_component(_beside "${MLXCPP_CARGO}" DIRECTORY)
  find_program(${_variable} NAMES ${_program} HINTS ${_beside} VALIDATOR mlxcpp_new_enough ${_only_path})
  if(NOT ${_variable})
    get_property(_refused GLOBAL PROPERTY MLXCPP_CARGO_REFUSED)
    list(JOIN _refused "; " _refused)
    if(NOT _refused)
      set(_refused none)
    endif()
    set(MLXCPP_CARGO_FAULT "${_program} >= ${MLXCPP_CARGO_MINIMUM} is needed, found on PATH: ${_refused}")
  endif()
endforeach()

if(CMAKE_SCRIPT_MODE_FILE STREQUAL CMAKE_CURRENT_LIST_FILE AND MLXCPP_CARGO_FAULT)
  message(NOTICE "${MLXCPP_CARGO_FAULT}")
endif()
