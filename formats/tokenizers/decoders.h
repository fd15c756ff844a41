#pragma once

#include <functional>
#include <string>
#include <vector>

#include "lib/tokenizer_pipeline.h"

namespace ropewalk::formats {

/// The decoders of a tokenizer.json, compiled: tokens to text. Thread-safe.
class Decoders {
 public:
  /// Error without a place for a pattern that does not compile.
  Decoders(const std::vector<decoders::Step>& steps, bool has_decoder);
  /// `tokens` are valid UTF-8, and so is the result. Error(unsupported) where steps make far too much of them.
  std::string decode(std::vector<std::string> tokens) const;

 private:
  std::vector<std::function<void(std::vector<std::string>&, std::size_t most_bytes)>> steps_;
  bool has_decoder_;
};

}  // namespace ropewalk::formats
