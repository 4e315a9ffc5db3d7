# The command line. CLI11, fmt and nlohmann-json are header-only here, so the binary adds no shared library.
keel_glob(app_sources apps/keel)
if(app_sources)
  find_package(CLI11 REQUIRED)
  find_package(fmt REQUIRED)
  find_package(nlohmann_json REQUIRED)
  add_executable(keel_cli ${app_sources})
  keel_compile_options(keel_cli)
  target_include_directories(keel_cli PRIVATE ${PROJECT_SOURCE_DIR}/apps/keel)
  target_link_libraries(keel_cli PRIVATE keel_faults keel::keel CLI11::CLI11 fmt::fmt-header-only nlohmann_json::nlohmann_json)
  set_target_properties(keel_cli PROPERTIES UNITY_BUILD ON UNITY_BUILD_BATCH_SIZE 3) # those headers are templates that each file would compile again
  # Nothing here is hot, as the work is in the ops; optimising what those headers hold would double the time to build.
  target_compile_options(keel_cli PRIVATE $<$<CXX_COMPILER_ID:GNU,Clang>:-O0>)
  set_target_properties(keel_cli PROPERTIES OUTPUT_NAME keel RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/apps/keel)
endif()
