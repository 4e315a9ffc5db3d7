#pragma once
#include <string>
#include <string_view>

#include "keel/base/result.h"
#include "keel/state_dict.h"
#include "keel/tensor.h"

#pragma GCC visibility push(default)
/// NumPy's files. All dtypes; bfloat16 and the 8-bit floats go by name ("bfloat16"), which NumPy reads once ml_dtypes is imported, and
/// which it writes itself as "V2" and "V1": V2 is read as bfloat16, V1 is refused because it does not say which. Object arrays hold
/// pickles, which can run code, and are refused, as are structured dtypes and text.
namespace keel::io {

/// One array of a .npy file, versions 1 to 3, either byte order; column-major arrays keep their layout.
Result<Tensor> read_npy(const std::string& path);
/// The same from memory, of which it keeps a copy.
Result<Tensor> parse_npy(std::string_view bytes);
/// Version 1, row-major, the bytes that numpy.save writes.
Result<void> write_npy(const std::string& path, const Tensor& x);

/// The arrays of a .npz file by name.
Result<StateDict> read_npz(const std::string& path);
Result<StateDict> parse_npz(std::string_view bytes);
Result<void> write_npz(const std::string& path, const StateDict& arrays, bool compress = false);

}  // namespace keel::io
#pragma GCC visibility pop
