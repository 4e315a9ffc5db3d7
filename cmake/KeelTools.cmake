# Flags of our own targets. Nothing here touches a parent project.

if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 12)
  message(FATAL_ERROR "Keel needs g++ >= 12 (found ${CMAKE_CXX_COMPILER_VERSION})")
elseif(CMAKE_CXX_COMPILER_ID STREQUAL "Clang" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 16)
  message(FATAL_ERROR "Keel needs clang >= 16 (found ${CMAKE_CXX_COMPILER_VERSION})")
endif()

if(PROJECT_IS_TOP_LEVEL)
  set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
  if(NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
    set(CMAKE_BUILD_TYPE Release CACHE STRING "" FORCE)
  endif()
  find_program(KEEL_CCACHE ccache)
  if(KEEL_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
    set(CMAKE_CXX_COMPILER_LAUNCHER ${KEEL_CCACHE})
  endif()
  find_program(KEEL_MOLD mold)
  if(KEEL_MOLD AND NOT CMAKE_EXE_LINKER_FLAGS MATCHES "fuse-ld")
    add_link_options(-fuse-ld=mold)
  endif()
endif()

# Flags that every target of ours shares. No contraction: FMA only where it is written (docs/adr/0007).
function(keel_compile_options target)
  target_compile_features(${target} PRIVATE cxx_std_20)
  target_compile_options(${target} PRIVATE -Wall -Wextra -ffp-contract=off)
  if(CMAKE_SYSTEM_PROCESSOR MATCHES "aarch64|arm64") # Highway's NEON target has AES; functions that the compiler adds must agree with it
    target_compile_options(${target} PRIVATE -march=armv8-a+crypto)
  endif()
  if(CMAKE_SYSTEM_PROCESSOR MATCHES "wasm") # Highway 1.0 has f64 there in its portable vectors only, which -msimd128 turns into instructions; code has no addresses, threads do not end
    target_compile_options(${target} PRIVATE -DHWY_COMPILE_ONLY_EMU128 "-D__builtin_return_address(level)=nullptr" -fno-c++-static-destructors)
  endif()
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    target_compile_options(${target} PRIVATE -Wno-psabi)
    if(CMAKE_CXX_COMPILER_VERSION VERSION_LESS 14) # false alarms after inlining at -O3, e.g. GCC bug 105651; clang and the sanitizers look at the same code
      target_compile_options(${target} PRIVATE -Wno-restrict -Wno-array-bounds -Wno-free-nonheap-object -Wno-stringop-overflow -Wno-stringop-overread)
    endif()
  elseif(KEEL_TIME_TRACE)
    target_compile_options(${target} PRIVATE -ftime-trace)
  endif()
  set_target_properties(${target} PROPERTIES CXX_EXTENSIONS OFF CXX_VISIBILITY_PRESET hidden VISIBILITY_INLINES_HIDDEN ON POSITION_INDEPENDENT_CODE ON)
endfunction()

# keel_glob(OUT folder...): the *.cpp files below the given folders; adding a file needs no edit here.
function(keel_glob out)
  set(all)
  foreach(folder ${ARGN})
    file(GLOB_RECURSE found CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/${folder}/*.cpp)
    list(APPEND all ${found})
  endforeach()
  set(${out} ${all} PARENT_SCOPE)
endfunction()
