#include "formats/tokenizers/precompiled_normalizer.h"

#include <utf8proc.h>

#include <algorithm>
#include <array>

#include "formats/tokenizers/characters.h"
#include "lib/error.h"

namespace ropewalk::formats {
namespace {

constexpr std::size_t kMaxClusterBytes = 5;  // longer ones go character by character

struct Range {
  std::uint32_t first, last;
};
// What the library's Unicode lets extend a cluster and utf8proc 2.8, which has 15.0, does not know yet: found by asking
// it about "a", the character and "b" for every character.
constexpr std::array kNewMarks = {
    Range{0x0897, 0x0897},   Range{0x1ACF, 0x1ADD},   Range{0x1AE0, 0x1AEB},   Range{0x10D69, 0x10D6D},
    Range{0x10EFA, 0x10EFC}, Range{0x113B8, 0x113C0}, Range{0x113C2, 0x113C2}, Range{0x113C5, 0x113C5},
    Range{0x113C7, 0x113CA}, Range{0x113CC, 0x113D0}, Range{0x113D2, 0x113D2}, Range{0x113E1, 0x113E2},
    Range{0x11B60, 0x11B67}, Range{0x11F5A, 0x11F5A}, Range{0x1611E, 0x1612F}, Range{0x1E5EE, 0x1E5EF},
    Range{0x1E6E3, 0x1E6E3}, Range{0x1E6E6, 0x1E6E6}, Range{0x1E6EE, 0x1E6EF}, Range{0x1E6F5, 0x1E6F5}};

/// The character for utf8proc: a mark that it knows where it is a new one.
utf8proc_int32_t known(std::uint32_t code) {
  const auto range = std::upper_bound(kNewMarks.begin(), kNewMarks.end(), code,
                                      [](std::uint32_t one, const Range& other) { return one < other.first; });
  const bool is_new = range != kNewMarks.begin() && code <= (range - 1)->last;
  return is_new ? 0x0300 : static_cast<utf8proc_int32_t>(code);
}

/// Bytes of the cluster `text` starts with.
std::size_t cluster_length(std::string_view text) {
  Character last = first_character(text);
  std::size_t length = last.length;
  for (utf8proc_int32_t state = 0; length < text.size();) {
    const Character next = first_character(text.substr(length));
    if (utf8proc_grapheme_break_stateful(known(last.code), known(next.code), &state)) break;
    length += next.length;
    last = next;
  }
  return length;
}

}  // namespace

PrecompiledNormalizer::PrecompiledNormalizer(std::string_view charsmap) : rules_(charsmap) {
  if (rules_.empty() || !rules_.is_utf8())
    throw Error(
        ErrorKind::bad_input, {},
        std::string("precompiled_charsmap: ") + (rules_.empty() ? "it has no rules" : "its replacements are not UTF-8"),
        "the tokenizer is corrupt: fetch it again");
}

std::string PrecompiledNormalizer::applied(std::string_view text) const {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    const std::string_view cluster = text.substr(0, cluster_length(text));
    text.remove_prefix(cluster.size());
    if (const auto rule = rules_.shortest(cluster); cluster.size() <= kMaxClusterBytes && rule.length > 0) {
      out += rule.replacement;
      continue;
    }
    for (std::string_view rest = cluster; !rest.empty();) {
      const std::string_view character = rest.substr(0, first_character(rest).length);
      const auto rule = rules_.shortest(character);
      out += rule.length > 0 ? rule.replacement : character;
      rest.remove_prefix(character.size());
    }
  }
  return out;
}

}  // namespace ropewalk::formats
