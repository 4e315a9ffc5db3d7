#pragma once
#include <cstdio>
#include <cstdlib>
#include <string>

#include "keel/io/safetensors.h"

namespace keel::train {

/// Numbers kept as text beside a checkpoint's tensors, exactly: doubles in hexadecimal.
struct StateText {
  io::Metadata metadata;

  void set(std::string key, std::string value) { metadata.emplace_back(std::move(key), std::move(value)); }
  void set(std::string key, const char* value) { set(std::move(key), std::string(value)); }
  void set(std::string key, int64_t v) { set(std::move(key), std::to_string(v)); }
  void set(std::string key, double v) {
    char text[40];
    std::snprintf(text, sizeof text, "%a", v);
    set(std::move(key), std::string(text));
  }
  /// Empty where there is no such key.
  std::string text(const std::string& key) const {
    for (const auto& [k, v] : metadata)
      if (k == key) return v;
    return {};
  }
  int64_t integer(const std::string& key) const { return std::strtoll(text(key).c_str(), nullptr, 10); }
  double number(const std::string& key) const { return std::strtod(text(key).c_str(), nullptr); }
};

}  // namespace keel::train
