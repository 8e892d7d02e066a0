# What every target of the house shares: language, warnings, sanitizers, and the helpers that declare tests.
set(CMAKE_C_STANDARD 17)
set(CMAKE_C_STANDARD_REQUIRED ON)
set(CMAKE_C_EXTENSIONS ON) # attributes, POSIX and Linux calls
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release)
endif()
# Asserts stay on in every build: they guard programmers' mistakes outside hot loops.
set(CMAKE_C_FLAGS_RELEASE "-O3 -g1")
set(CMAKE_C_FLAGS_RELWITHDEBINFO "-O2 -g")

find_package(PkgConfig REQUIRED)
find_package(Threads REQUIRED)
pkg_check_modules(SODIUM REQUIRED IMPORTED_TARGET libsodium)

# Stored bytes depend on float sums: no contraction, no fast-math (codec/MATH.md 1.3).
add_compile_options(-ffp-contract=off -fno-fast-math)
add_compile_definitions(_GNU_SOURCE)

add_library(gyre_warnings INTERFACE)
target_compile_options(gyre_warnings INTERFACE
  -Wall -Wextra -Wshadow -Wconversion -Werror -Wstrict-prototypes -Wmissing-prototypes -Wvla
  -Werror=implicit-function-declaration)

if(GYRE_SANITIZE)
  add_compile_options(-fsanitize=${GYRE_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  add_link_options(-fsanitize=${GYRE_SANITIZE})
endif()

if(GYRE_FUZZ) # the libraries too, or libFuzzer sees no coverage
  add_compile_options(-fsanitize=fuzzer-no-link,address,undefined)
  add_link_options(-fsanitize=address,undefined)
endif()

# A test's time limit is for one that hangs: on a busy machine, under a sanitizer, the longest of them take minutes.
if(GYRE_SANITIZE)
  set(GYRE_TEST_SECONDS 1800)
else()
  set(GYRE_TEST_SECONDS 600)
endif()

# gyre_test(<label> <rung> <source...> [LIBS <lib...>]): a cmocka program, run as CTest <label> with label <rung>
# (unit, property, fuzz, fault, sim, cluster, slow: see ops/README.md, "Tests"). What runs gRPC has the label grpc besides.
function(gyre_test name rung)
  cmake_parse_arguments(T "" "" "SOURCES;LIBS" ${ARGN})
  pkg_check_modules(CMOCKA REQUIRED IMPORTED_TARGET cmocka)
  string(REPLACE "." "_" target "test_${name}")
  add_executable(${target} ${T_SOURCES})
  target_link_libraries(${target} PRIVATE gyre_warnings PkgConfig::CMOCKA ${T_LIBS})
  set_target_properties(${target} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
  add_test(NAME ${name} COMMAND ${target})
  set_tests_properties(${name} PROPERTIES LABELS ${rung} TIMEOUT ${GYRE_TEST_SECONDS})
endfunction()

# gyre_fuzz(<name> SOURCES fuzz_x.c CORPUS dir LIBS ...): with GYRE_FUZZ a libFuzzer program; always a replay of the
# corpus as a CTest, whatever the compiler.
function(gyre_fuzz name)
  cmake_parse_arguments(T "" "CORPUS" "SOURCES;LIBS" ${ARGN})
  string(REPLACE "." "_" target "fuzz_${name}")
  add_executable(${target} ${T_SOURCES} ${PROJECT_SOURCE_DIR}/ops/cmake/fuzz_replay.c)
  target_link_libraries(${target} PRIVATE gyre_warnings ${T_LIBS})
  set_target_properties(${target} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
  add_test(NAME ${name} COMMAND ${target} ${T_CORPUS})
  set_tests_properties(${name} PROPERTIES LABELS fuzz TIMEOUT ${GYRE_TEST_SECONDS})
  if(GYRE_FUZZ)
    add_executable(${target}_libfuzzer ${T_SOURCES})
    target_compile_options(${target}_libfuzzer PRIVATE -fsanitize=fuzzer,address,undefined)
    target_link_options(${target}_libfuzzer PRIVATE -fsanitize=fuzzer,address,undefined)
    target_link_libraries(${target}_libfuzzer PRIVATE gyre_warnings ${T_LIBS})
  endif()
endfunction()
