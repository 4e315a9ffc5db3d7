#include "keel/state_dict.h"

#include <algorithm>

#include "keel/error.h"

namespace keel {
namespace {

uint64_t hash_of(std::string_view s) {
  uint64_t h = 14695981039346656037u;  // FNV-1a
  for (char c : s) h = (h ^ uint8_t(c)) * 1099511628211u;
  return h ^ (h >> 29);
}

/// Edits that turn one text into the other, by dynamic programming over one row.
int64_t distance(std::string_view a, std::string_view b) {
  std::vector<int64_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = int64_t(j);
  for (size_t i = 1; i <= a.size(); ++i) {
    int64_t diagonal = row[0];
    row[0] = int64_t(i);
    for (size_t j = 1; j <= b.size(); ++j) {
      const int64_t up = row[j];
      row[j] = std::min({up + 1, row[j - 1] + 1, diagonal + (a[i - 1] != b[j - 1])});
      diagonal = up;
    }
  }
  return row[b.size()];
}

}  // namespace

StateDict::StateDict(std::initializer_list<Entry> entries) {
  for (const Entry& e : entries) set(e.name, e.tensor);
}

const StateDict::Entry& StateDict::at(int64_t i) const {
  if (i < 0 || i >= size())
    raise(Error(ErrorCode::index, "entry " + std::to_string(i) + " of a dictionary of " + std::to_string(size()) + " tensors").op("StateDict").hint("size() tells how many there are"));
  return entries_[size_t(i)];
}

int64_t StateDict::position(std::string_view name) const {
  if (slots_.empty()) return -1;
  const size_t mask = slots_.size() - 1;
  for (size_t i = hash_of(name) & mask; slots_[i] >= 0; i = (i + 1) & mask)
    if (entries_[size_t(slots_[i])].name == name) return slots_[i];
  return -1;
}

void StateDict::index() {
  size_t n = 16;
  while (n < entries_.size() * 2 + 2) n *= 2;
  slots_.assign(n, -1);
  for (size_t k = 0; k < entries_.size(); ++k) {
    size_t i = hash_of(entries_[k].name) & (n - 1);
    while (slots_[i] >= 0) i = (i + 1) & (n - 1);
    slots_[i] = int32_t(k);
  }
}

const Tensor* StateDict::find(std::string_view name) const {
  const int64_t i = position(name);
  return i < 0 ? nullptr : &entries_[size_t(i)].tensor;
}

Tensor StateDict::operator[](std::string_view name) const {
  if (const Tensor* t = find(name)) return *t;
  Error e(ErrorCode::value, "no tensor is named '" + std::string(name) + "' among " + std::to_string(entries_.size()));
  e.op("StateDict");
  const Entry* best = nullptr;
  int64_t least = int64_t(name.size()) / 2 + 1;
  if (entries_.size() <= 4096 && name.size() <= 256)
    for (const Entry& entry : entries_)
      if (const int64_t d = distance(name, entry.name); d < least) least = d, best = &entry;
  if (best) e.hint("did you mean '" + best->name + "'?");
  raise(e);
}

void StateDict::set(std::string name, Tensor t) {
  if (const int64_t i = position(name); i >= 0) {
    entries_[size_t(i)].tensor = std::move(t);
    return;
  }
  entries_.push_back({std::move(name), std::move(t)});
  if (slots_.size() < entries_.size() * 2) return index();
  size_t i = hash_of(entries_.back().name) & (slots_.size() - 1);
  while (slots_[i] >= 0) i = (i + 1) & (slots_.size() - 1);
  slots_[i] = int32_t(entries_.size() - 1);
}

bool StateDict::erase(std::string_view name) {
  const int64_t i = position(name);
  if (i < 0) return false;
  entries_.erase(entries_.begin() + i);
  index();
  return true;
}

StateDict StateDict::strip(std::string_view prefix) const {
  StateDict out;
  for (const Entry& e : entries_)
    if (std::string_view(e.name).starts_with(prefix)) out.set(e.name.substr(prefix.size()), e.tensor);
  return out;
}

void StateDict::merge(const StateDict& o, std::string_view prefix) {
  for (const Entry& e : o) set(std::string(prefix) + e.name, e.tensor);
}

}  // namespace keel
