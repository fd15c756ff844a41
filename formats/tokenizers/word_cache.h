#pragma once

#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace ropewalk::formats {

/// Ids of words already encoded: natural text repeats itself. Holds at most half a million short words, then no more.
class WordCache {
 public:
  WordCache() : slots_(kSlots) {}

  /// Appends the word's ids if they are known.
  bool copy(std::string_view word, std::vector<std::int32_t>& ids) const {
    if (word.size() > kMaxBytes) return false;
    const Slot& found = slots_[slot(word)];
    if (found.n_bytes == 0) return false;
    const auto begin = ids_.begin() + static_cast<std::ptrdiff_t>(found.ids);
    ids.insert(ids.end(), begin, begin + found.n_ids);
    return true;
  }
  /// Remembers a word that copy() did not know.
  void keep(std::string_view word, std::span<const std::int32_t> ids) {
    if (word.size() > kMaxBytes || word.empty() || n_ >= slots_.size() / 2) {
      if (word.size() > kMaxBytes || word.empty() || slots_.size() >= kMaxSlots) return;
      grow();
    }
    Slot& place = slots_[slot(word)];
    place = {hash_of(word), static_cast<std::uint32_t>(bytes_.size()), static_cast<std::uint32_t>(ids_.size()),
             static_cast<std::uint16_t>(word.size()), static_cast<std::uint16_t>(ids.size())};
    bytes_ += word;
    ids_.insert(ids_.end(), ids.begin(), ids.end());
    ++n_;
  }

 private:
  static constexpr std::size_t kSlots = 1 << 12, kMaxSlots = 1 << 20;  // powers of two
  static constexpr std::size_t kMaxBytes = 64;
  struct Slot {
    std::uint64_t hash = 0;
    std::uint32_t bytes = 0, ids = 0;      // where they begin
    std::uint16_t n_bytes = 0, n_ids = 0;  // n_bytes 0: free
  };

  static std::uint64_t hash_of(std::string_view word) noexcept {
    std::uint64_t hash = word.size() * 0x9E3779B97F4A7C15u;
    while (word.size() >= 8) {
      std::uint64_t part;
      std::memcpy(&part, word.data(), 8);
      hash = (hash ^ part) * 0xD6E8FEB86659FD93u;
      hash ^= hash >> 32;
      word.remove_prefix(8);
    }
    std::uint64_t part = 0;
    std::memcpy(&part, word.data(), word.size());
    hash = (hash ^ part) * 0xD6E8FEB86659FD93u;
    return hash ^ hash >> 32;
  }
  std::size_t slot(std::string_view word) const noexcept {
    const std::uint64_t hash = hash_of(word);
    std::size_t at = static_cast<std::size_t>(hash) & (slots_.size() - 1);
    while (slots_[at].n_bytes != 0 &&
           (slots_[at].hash != hash || std::string_view(bytes_).substr(slots_[at].bytes, slots_[at].n_bytes) != word))
      at = (at + 1) & (slots_.size() - 1);
    return at;
  }
  void grow() {
    std::vector<Slot> old(slots_.size() * 4);
    old.swap(slots_);
    for (const Slot& one : old) {
      if (one.n_bytes == 0) continue;
      std::size_t at = static_cast<std::size_t>(one.hash) & (slots_.size() - 1);
      while (slots_[at].n_bytes != 0) at = (at + 1) & (slots_.size() - 1);
      slots_[at] = one;
    }
  }

  std::vector<Slot> slots_;
  std::string bytes_;
  std::vector<std::int32_t> ids_;
  std::size_t n_ = 0;
};

}  // namespace ropewalk::formats
