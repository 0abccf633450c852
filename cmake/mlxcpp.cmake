# Dependencies, compiler settings, and the functions that declare targets:
#   mlxcpp_library(NAME SOURCES ... [DEPENDS ...])   libraries/NAME -> mlxcpp::NAME
#   mlxcpp_tool(NAME SOURCES ... [DEPENDS ...])      a program in build/PRESET/bin, known to mlx-run
#   mlxcpp_test(NAME SOURCES ... [DEPENDS ...])      a GoogleTest program; ctest knows each of its tests

# MLX: the official wheel in the private venv that mlx-run makes, or one's own build.
set(MLX_ROOT "$ENV{MLX_ROOT}" CACHE PATH "folder of MLX (include/, lib/, share/cmake/MLX)")
if(NOT MLX_ROOT)
  file(GLOB _wheel ${PROJECT_SOURCE_DIR}/.venv/lib/python3*/site-packages/mlx)
  set(MLX_ROOT "${_wheel}" CACHE PATH "folder of MLX (include/, lib/, share/cmake/MLX)" FORCE)
endif()
find_package(MLX CONFIG REQUIRED HINTS ${MLX_ROOT}/share/cmake)
find_package(Threads REQUIRED)
find_package(fmt REQUIRED)
find_package(nlohmann_json 3.11 REQUIRED)
find_package(CLI11 REQUIRED)
find_package(CURL REQUIRED)
find_package(ZLIB REQUIRED)

find_program(CCACHE ccache)
if(CCACHE)
  # Precompiled headers need these to hit.
  set(CMAKE_CXX_COMPILER_LAUNCHER
      ${CMAKE_COMMAND} -E env CCACHE_SLOPPINESS=pch_defines,time_macros,include_file_mtime,include_file_ctime
      CCACHE_BASEDIR=${PROJECT_SOURCE_DIR} CCACHE_NOHASHDIR=1 ${CCACHE})
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    add_compile_options(-fpch-preprocess)
  endif()
endif()

# Designated initialisers leave fields out on purpose.
add_compile_options(-Wall -Wextra -Wno-missing-field-initializers)
# libstdc++ uses what it declares deprecated itself (std::bind in MLX's encoder.h, std::stable_sort),
# in templates, where clang warns of it.
add_compile_options($<$<CXX_COMPILER_ID:Clang>:-Wno-deprecated-declarations>)
# A fused multiply-add changes last digits from one compiler to the next; kernels ask for it by name.
add_compile_options(-ffp-contract=off)
if(MLXCPP_WERROR)
  add_compile_options(-Werror)
endif()
if(MLXCPP_SANITIZE)
  add_compile_options(-fsanitize=${MLXCPP_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  add_link_options(-fsanitize=${MLXCPP_SANITIZE})
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    # With -fsanitize, GCC 12 takes parts of std::regex and of empty std::optional for uninitialised.
    add_compile_options(-Wno-maybe-uninitialized)
  endif()
endif()

set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)

# One precompiled header for all targets: MLX's headers cost seconds in every file.
file(WRITE ${CMAKE_BINARY_DIR}/pch.cpp "// Owner of the precompiled header.\n")
add_library(mlxcpp_pch OBJECT ${CMAKE_BINARY_DIR}/pch.cpp)
target_link_libraries(mlxcpp_pch PUBLIC mlx fmt::fmt nlohmann_json::nlohmann_json)
target_precompile_headers(mlxcpp_pch PRIVATE
  <algorithm> <filesystem> <functional> <map> <memory> <optional> <string> <unordered_map> <variant>
  <vector> <fmt/format.h> <mlx/mlx.h> <nlohmann/json.hpp>)

function(mlxcpp_library NAME)
  cmake_parse_arguments(A "" "" "SOURCES;DEPENDS" ${ARGN})
  add_library(mlxcpp_${NAME} STATIC ${A_SOURCES})
  add_library(mlxcpp::${NAME} ALIAS mlxcpp_${NAME})
  target_include_directories(mlxcpp_${NAME} PUBLIC ${PROJECT_SOURCE_DIR}/libraries)
  target_link_libraries(mlxcpp_${NAME} PUBLIC mlx fmt::fmt nlohmann_json::nlohmann_json ${A_DEPENDS})
  target_precompile_headers(mlxcpp_${NAME} REUSE_FROM mlxcpp_pch)
endfunction()

function(mlxcpp_tool NAME)
  cmake_parse_arguments(A "" "" "SOURCES;DEPENDS" ${ARGN})
  add_executable(${NAME} ${A_SOURCES})
  target_include_directories(${NAME} PRIVATE ${PROJECT_SOURCE_DIR}/tools)
  target_link_libraries(${NAME} PRIVATE ${A_DEPENDS} CLI11::CLI11)
  target_compile_definitions(${NAME} PRIVATE MLXCPP_VERSION="${PROJECT_VERSION}")
  target_precompile_headers(${NAME} REUSE_FROM mlxcpp_pch)
endfunction()

function(mlxcpp_test NAME)
  cmake_parse_arguments(A "" "" "SOURCES;DEPENDS" ${ARGN})
  add_executable(${NAME} ${A_SOURCES})
  target_include_directories(${NAME} PRIVATE ${PROJECT_SOURCE_DIR} ${PROJECT_SOURCE_DIR}/tests)
  target_link_libraries(${NAME} PRIVATE ${A_DEPENDS} GTest::gtest GTest::gmock mlxcpp_test_main)
  target_precompile_headers(${NAME} REUSE_FROM mlxcpp_pch)
  set_target_properties(${NAME} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
  gtest_discover_tests(${NAME} DISCOVERY_MODE PRE_TEST TEST_PREFIX "${NAME}." PROPERTIES TIMEOUT 600)
endfunction()
