#pragma once
// Machine code of chains on disk, by everything that it depends on.
#include <string>
#include <vector>

namespace keel::cuda {

/// ${KEEL_CACHE_DIR}, else ${XDG_CACHE_HOME}/keel, else ~/.cache/keel, and below it "kernels"; empty where none of them is set.
std::string fuse_cache_folder();
/// The code that was kept for `key` in `folder`; empty where there is none, or the file is not whole, of another key, or open to others.
std::vector<char> cached_code(const std::string& folder, const std::string& key);
/// Keeps it. A file appears whole or not at all; where it cannot be written, nothing happens.
void keep_code(const std::string& folder, const std::string& key, const std::vector<char>& code);
/// The file of `key`.
std::string cache_file(const std::string& folder, const std::string& key);

}  // namespace keel::cuda
