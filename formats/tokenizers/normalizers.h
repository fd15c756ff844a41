#pragma once

#include <functional>
#include <string>
#include <vector>

#include "lib/tokenizer_pipeline.h"

namespace ropewalk::formats {

/// A text on its way through the steps.
struct NormalizedText {
  std::string text;            // valid UTF-8
  bool at_start = false;       // its first character stems from the first one of the whole input
  std::size_t most_bytes = 0;  // that steps may make of it
};

/// The normalizers of a tokenizer.json, compiled. Thread-safe; linear in the text.
class Normalizers {
 public:
  /// Error without a place for a pattern that does not compile, and where steps make far too much of a text.
  explicit Normalizers(const std::vector<normalizers::Step>& steps);
  bool empty() const noexcept { return steps_.empty(); }
  void apply(NormalizedText& text) const;
  std::string applied(std::string text) const;

 private:
  std::vector<std::function<void(NormalizedText&)>> steps_;
};

}  // namespace ropewalk::formats
