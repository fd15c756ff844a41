#include "formats/tokenizers/token_place.h"

#include <algorithm>

namespace ropewalk::formats {
namespace {

constexpr std::size_t kBytesAround = 40;

bool inside_character(std::string_view text, std::size_t at) { return at < text.size() && (text[at] & 0xC0) == 0x80; }

/// The bytes of `text` that `ids` stand for, if what they decode to stands there; a space of the tokenizer's own may be
/// missing in front.
std::optional<std::size_t> spelled_bytes(const Tokenizer& tokenizer, std::span<const std::int32_t> ids,
                                         std::string_view text) {
  std::string decoded = ids.empty() ? std::string() : tokenizer.decode(ids);
  if (text.starts_with(decoded)) return decoded.size();
  if (decoded.starts_with(' ') && text.starts_with(std::string_view(decoded).substr(1))) return decoded.size() - 1;
  // The last token may end inside a character, which decoding shows as U+FFFD.
  constexpr std::string_view kBroken = "\xEF\xBF\xBD";
  while (decoded.ends_with(kBroken)) decoded.resize(decoded.size() - kBroken.size());
  return text.starts_with(decoded) ? std::optional(decoded.size()) : std::nullopt;
}

}  // namespace

std::optional<TextPlace> place_after(const Tokenizer& tokenizer, std::span<const std::int32_t> ids,
                                     std::string_view text) {
  const auto spelled = spelled_bytes(tokenizer, ids, text);
  if (!spelled) return std::nullopt;
  const std::size_t byte = *spelled;
  TextPlace place{.byte = byte};
  place.line = 1 + static_cast<int>(std::count(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(byte), '\n'));
  std::size_t begin = byte - std::min(byte, kBytesAround), end = std::min(text.size(), byte + kBytesAround);
  while (begin < byte && inside_character(text, begin)) ++begin;
  while (end > byte && inside_character(text, end)) --end;
  place.before = text.substr(begin, byte - begin);
  place.after = text.substr(byte, end - byte);
  return place;
}

std::string described(const TextPlace& place) {
  return "line " + std::to_string(place.line) + ", byte " + std::to_string(place.byte) + ": \"" +
         on_one_line(place.before) + "\" | \"" + on_one_line(place.after) + "\"";
}

std::string on_one_line(std::string_view text) {
  std::string out;
  for (char c : text) {
    if (c == '\n') out += "\\n";
    else if (c == '\r') out += "\\r";
    else if (c == '\t') out += "\\t";
    else out += static_cast<unsigned char>(c) < 0x20 || c == 0x7F ? '?' : c;
  }
  return out;
}

}  // namespace ropewalk::formats
