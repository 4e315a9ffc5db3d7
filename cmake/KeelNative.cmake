# A build for processors like this one: kernels at one instruction-set level instead of three, which compile in a third of the time. Never installed or shipped.

# keel_native(target): its files that Highway compiles once a level are compiled once, for the best level that Keel has and this processor too.
function(keel_native target)
  execute_process(COMMAND ${CMAKE_CXX_COMPILER} -march=native -dM -E -x c++ /dev/null OUTPUT_VARIABLE macros ERROR_QUIET)
  if(macros MATCHES "__AVX512BW__" AND macros MATCHES "__AVX512DQ__" AND macros MATCHES "__AVX512VL__")
    set(level avx512)
    set(arch skylake-avx512)
  elseif(macros MATCHES "__AVX2__" AND macros MATCHES "__FMA__" AND macros MATCHES "__F16C__" AND macros MATCHES "__BMI2__")
    set(level avx2)
    set(arch haswell)
  else()
    return() # elsewhere there is one level anyway
  endif()
  target_compile_definitions(${target} PRIVATE KEEL_NATIVE_ISA=${level})
  get_target_property(sources ${target} SOURCES)
  foreach(source ${sources})
    file(STRINGS ${source} foreach_target REGEX "hwy/foreach_target.h" LIMIT_COUNT 1)
    if(foreach_target)
      set_source_files_properties(${source} PROPERTIES COMPILE_OPTIONS "-march=${arch};${KEEL_NATIVE_FLAGS}" SKIP_PRECOMPILE_HEADERS ON)
    endif()
  endforeach()
endfunction()
