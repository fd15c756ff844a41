#include "formats/tokenizers/word_encoder.h"

#include <cstdint>
#include <limits>

#include "formats/tokenizers/characters.h"
#include "lib/error.h"

namespace ropewalk::formats {
namespace {

constexpr std::size_t kMaxRememberedBytes = 48, kMaxRemembered = 1u << 18;

}  // namespace

void WordEncoder::encode(std::string_view text, const Cutter& cut, const Emit& emit,
                         std::vector<std::int32_t>& ids) const {
  if (text.size() > static_cast<std::size_t>(std::numeric_limits<std::int32_t>::max()))
    throw Error(ErrorKind::unsupported, {},
                "a text of " + std::to_string(text.size()) + " bytes, expected fewer than 2 GiB", "split the text");
  const bool by_word = merger_.words_are_independent() && !keep_history_;
  struct Range {
    std::size_t begin, end;
  };
  std::unordered_map<std::string_view, Range> remembered;  // word -> its ids in `ids`
  std::vector<MergeSymbol> symbols;
  MergeHistory history;

  const auto flush = [&] {
    if (symbols.empty()) return;
    const std::size_t begin = symbols.front().begin;
    const std::string_view word = text.substr(begin, symbols.back().begin + symbols.back().size - begin);
    const bool memorable = by_word && word.size() <= kMaxRememberedBytes && !symbols.front().frozen;
    if (memorable) {
      if (const auto seen = remembered.find(word); seen != remembered.end()) {
        const Range range = seen->second;
        for (std::size_t at = range.begin; at < range.end; ++at) ids.push_back(ids[at]);
        symbols.clear();
        return;
      }
    }
    for (MergeSymbol& symbol : symbols) symbol.id = index_.find(text.substr(symbol.begin, symbol.size));
    merger_.merge(text, symbols, keep_history_ ? &history : nullptr);
    const std::size_t first = ids.size();
    for (std::int32_t at = 0; at >= 0; at = symbols[static_cast<std::size_t>(at)].next)
      emit(symbols[static_cast<std::size_t>(at)], keep_history_ ? &history : nullptr);
    if (memorable && remembered.size() < kMaxRemembered) remembered.emplace(word, Range{first, ids.size()});
    symbols.clear();
  };

  bool after_space = false;
  for (std::size_t at = 0; at < text.size();) {
    const Cut next = cut(text.substr(at));
    const bool is_space = text.substr(at, next.length) == kSpaceMark;
    // A word starts at a space that follows something else. A frozen symbol is a word of its own.
    if (by_word && (next.frozen || (is_space && !after_space) || (!symbols.empty() && symbols.back().frozen))) flush();
    symbols.push_back({.begin = static_cast<std::uint32_t>(at),
                       .size = static_cast<std::uint32_t>(next.length),
                       .frozen = next.frozen});
    after_space = is_space;
    at += next.length;
  }
  flush();
}

}  // namespace ropewalk::formats
