#pragma once
#include <string>

#include "keel/state_dict.h"

#pragma GCC visibility push(default)
namespace keel {

/// Reads tensors by name from a safetensors file, a Keel checkpoint, or a .npy (one tensor, "arr_0") or .npz file; what it is, its first
/// bytes tell. Tensors of the first two are mapped: read-only, nothing copied. Raises an Error of code `io` that names the file and what is
/// wrong with it. io::read_safetensors and its siblings give a Result instead.
StateDict load(const std::string& path);

/// Writes tensors to `path`, in the format that its ending names: .safetensors, .keel, .npz or, for a single tensor, whose name is not kept,
/// .npy. The file appears whole or not at all. Raises an Error of code `io`.
void save(const std::string& path, const StateDict& tensors);

}  // namespace keel
#pragma GCC visibility pop
