#pragma once

#pragma GCC visibility push(default)
namespace keel {

/// The version of the library that is linked, as "major.minor.patch".
const char* version();

/// Names version, processor, compiler and build type of the library. A plug-in loads only into a library with the same build id.
const char* build_id();

}  // namespace keel
#pragma GCC visibility pop
