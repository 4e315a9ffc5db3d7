#pragma once
#include <string>

namespace keel::base {

/// Where a code address lies, for people: "Net::forward(Tensor const&)+0x4f" where a symbol covers it, else "program+0x1234", an offset
/// into the file that addr2line takes; and where the program was built with -g or -g1, the source line: "... (src/net.cpp:12)". Never empty.
/// Looks symbols up in the file's own table too, so that a program needs no special link option. Slow at first: for reports, not for hot paths.
std::string describe_code(const void* address);

}  // namespace keel::base
