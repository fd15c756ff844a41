#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "lib/tokenizer_pipeline.h"

namespace ropewalk::formats {

/// A pattern of a tokenizer.json, compiled by PCRE2's JIT compiler. Thread-safe.
class Regex {
 public:
  /// Without a place: Error(unsupported) for a pattern that is too long (64 kB), not understood or refused by PCRE2,
  /// Error(bad_input) for brackets without a partner.
  explicit Regex(const TextPattern& pattern);
  /// One of our own, in PCRE2's syntax. Classes know ASCII alone. Not utf: text is bytes.
  struct Own {
    std::string text;
    bool utf = false;
  };
  explicit Regex(const Own& pattern);
  ~Regex();
  Regex(Regex&&) noexcept;
  Regex& operator=(Regex&&) noexcept;

  struct Match {
    std::size_t begin = 0, end = 0;
  };
  /// Hands every match in `text`, which must be valid UTF-8 unless the pattern is of bytes, to `take`, in order. An empty match right behind another
  /// match is none, as in Oniguruma's iterator. Error(unsupported) without a place if one match takes more steps than
  /// any tokenizer's needs.
  void for_each_match(std::string_view text, const std::function<void(Match)>& take) const;

 private:
  struct Code;
  std::unique_ptr<Code> code_;
};

}  // namespace ropewalk::formats
