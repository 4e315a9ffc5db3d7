#pragma once
#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "keel/tensor.h"

#pragma GCC visibility push(default)
namespace keel {

/// Tensors by name, in the order in which they were added: what a model saves and loads. Copies share the tensors.
class StateDict {
 public:
  struct Entry {
    std::string name;
    Tensor tensor;
  };
  StateDict() = default;
  StateDict(std::initializer_list<Entry> entries);

  int64_t size() const { return int64_t(entries_.size()); }
  bool empty() const { return entries_.empty(); }
  const Entry* begin() const { return entries_.data(); }
  const Entry* end() const { return entries_.data() + entries_.size(); }
  /// The entry at position `i` of the order; IndexError where there is none.
  const Entry& at(int64_t i) const;

  /// The tensor of that name; ValueError, with the nearest name as a hint, where there is none.
  Tensor operator[](std::string_view name) const;
  /// The tensor of that name, or null.
  const Tensor* find(std::string_view name) const;
  bool contains(std::string_view name) const { return find(name) != nullptr; }
  /// Adds a tensor at the end, or replaces the one of that name in its place.
  void set(std::string name, Tensor t);
  /// Whether there was such a name.
  bool erase(std::string_view name);
  /// The entries whose names begin with `prefix`, without it.
  StateDict strip(std::string_view prefix) const;
  /// Adds every entry of `o` under `prefix` + its name.
  void merge(const StateDict& o, std::string_view prefix = "");

 private:
  std::vector<Entry> entries_;
  std::vector<int32_t> slots_;  // hash table of positions, -1 where free
  int64_t position(std::string_view name) const;
  void index();
};

}  // namespace keel
#pragma GCC visibility pop
