#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "verify/perplexity.h"

namespace ropewalk::tools {

/// A perplexity somebody published, with what it depends on.
struct PublishedFigure {
  std::string source, protocol;
  int context = 0;
  std::optional<int> stride;  // nullopt: one window of each document
  double perplexity = 0;
  std::optional<std::string> text_sha256;  // nullopt: not known
  std::optional<std::uint64_t> tokens;     // that were scored; nullopt: not known
};
/// What `perplexity --json` prints, written by it or by hand: {"corpus": {"sha256"}, "results": [{"source", "context",
/// "protocol", "stride", "truncated", "tokens", "perplexity"}]}; corpus, truncated and tokens may be left out, other keys are
/// not looked at. Error(bad_input) with the place for anything else.
std::vector<PublishedFigure> parse_published(const std::string& path, const std::string& text);

/// Why `published` may not stand in a table beside `own`; nullopt if it may.
std::optional<std::string> not_comparable(const PublishedFigure& published, const verify::PerplexityResult& own,
                                          bool truncated, const std::string& text_sha256);

}  // namespace ropewalk::tools
