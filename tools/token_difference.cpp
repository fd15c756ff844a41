#include "tools/token_difference.h"

#include <algorithm>

#include "tools/render.h"
#include "tools/units.h"

namespace ropewalk::tools {
namespace {

constexpr std::size_t kTokensBefore = 3, kTokensAfter = 4;  // the one that differs is of the latter
constexpr std::size_t kBytesAround = 40;

bool inside_character(std::string_view text, std::size_t at) { return at < text.size() && (text[at] & 0xC0) == 0x80; }

/// As it stands on one line of a terminal.
std::string on_one_line(const std::string& text) {
  std::string out;
  for (char c : text) {
    if (c == '\n') out += "\\n";
    else if (c == '\r') out += "\\r";
    else if (c == '\t') out += "\\t";
    else out += static_cast<unsigned char>(c) < 0x20 || c == 0x7F ? '?' : c;
  }
  return out;
}

/// The bytes of `text` that `ids` stand for, if what they decode to stands there; a space of the tokenizer's own may be
/// missing in front.
std::optional<std::size_t> spelled_bytes(const TokenizedText& tokens, std::span<const std::int32_t> ids,
                                         std::string_view text) {
  std::string decoded = ids.empty() ? std::string() : tokens.tokenizer->decode(ids);
  if (text.starts_with(decoded)) return decoded.size();
  if (decoded.starts_with(' ') && text.starts_with(std::string_view(decoded).substr(1))) return decoded.size() - 1;
  // The last token may end inside a character, which decoding shows as U+FFFD.
  constexpr std::string_view kBroken = "\xEF\xBF\xBD";
  while (decoded.ends_with(kBroken)) decoded.resize(decoded.size() - kBroken.size());
  return text.starts_with(decoded) ? std::optional(decoded.size()) : std::nullopt;
}

TokenDifference::Place place_of(const std::string& document, const std::string& text, std::size_t byte) {
  TokenDifference::Place place{.document = document, .byte = byte};
  place.line = 1 + static_cast<int>(std::count(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(byte), '\n'));
  std::size_t begin = byte - std::min(byte, kBytesAround), end = std::min(text.size(), byte + kBytesAround);
  while (begin < byte && inside_character(text, begin)) ++begin;
  while (end > byte && inside_character(text, end)) --end;
  place.before = text.substr(begin, byte - begin);
  place.after = text.substr(byte, end - byte);
  return place;
}

std::size_t first_shown(std::size_t at) { return at - std::min(at, kTokensBefore); }

std::string around(const TokenizedText& tokens, std::size_t at) {
  std::string out;
  for (std::size_t i = first_shown(at); i < std::min(tokens.ids.size(), at + kTokensAfter); ++i)
    out += std::string(out.empty() ? "" : " ") + (i == at ? ">" : "") + std::to_string(tokens.ids[i]) + "(" +
           on_one_line(tokens.tokenizer->piece(tokens.ids[i])) + ")";
  if (at >= tokens.ids.size()) out += std::string(out.empty() ? "" : " ") + ">end";
  return out;
}

Json around_json(const TokenizedText& tokens, std::size_t at) {
  Json list = Json::array();
  for (std::size_t i = first_shown(at); i < std::min(tokens.ids.size(), at + kTokensAfter); ++i)
    list.push_back({{"token", i}, {"id", tokens.ids[i]}, {"piece", tokens.tokenizer->piece(tokens.ids[i])}});
  return list;
}

}  // namespace

TokenDifference first_difference(const TokenizedText& a, const TokenizedText& b, const Corpus& corpus) {
  const auto [one, other] = std::mismatch(a.ids.begin(), a.ids.end(), b.ids.begin(), b.ids.end());
  TokenDifference difference;
  if (one == a.ids.end() && other == b.ids.end()) return difference;
  const auto at = static_cast<std::size_t>(one - a.ids.begin());
  difference.at = at;
  const auto next = std::upper_bound(a.document_begins.begin(), a.document_begins.end(), at);
  if (next == a.document_begins.begin()) return difference;  // given ids, or what stands before the text
  const auto document = static_cast<std::size_t>(next - a.document_begins.begin()) - 1;
  const std::size_t begin = a.document_begins[document];
  const std::string& text = corpus.documents[document];
  if (const auto byte = spelled_bytes(a, std::span(a.ids).subspan(begin, at - begin), text))
    difference.place = place_of(corpus.names[document], text, *byte);
  return difference;
}

std::string difference_text(const TokenDifference& difference, const TokenizedText& a, const TokenizedText& b) {
  if (!difference.at) return b.source + ": the same " + plural(a.ids.size(), "id") + " as " + a.source;
  std::string out = "first difference at token " + std::to_string(*difference.at);
  if (const auto& place = difference.place)
    out += ", " + place->document + " line " + std::to_string(place->line) + ", byte " + std::to_string(place->byte) +
           ": \"" + on_one_line(place->before) + "\" | \"" + on_one_line(place->after) + "\"";
  return out + "\n" +
         aligned({{"  " + a.source, around(a, *difference.at)}, {"  " + b.source, around(b, *difference.at)}}) + "\n" +
         aligned({{"  tokens", std::to_string(a.ids.size()) + " and " + std::to_string(b.ids.size())}});
}

Json difference_json(const TokenDifference& difference, const TokenizedText& a, const TokenizedText& b) {
  const auto& place = difference.place;
  return {{"source", b.source},
          {"count", b.ids.size()},
          {"at", difference.at ? Json(*difference.at) : Json(nullptr)},
          {"document", place ? Json(place->document) : Json(nullptr)},
          {"byte", place ? Json(place->byte) : Json(nullptr)},
          {"line", place ? Json(place->line) : Json(nullptr)},
          {"before", place ? Json(place->before) : Json(nullptr)},
          {"after", place ? Json(place->after) : Json(nullptr)},
          {"first", difference.at ? around_json(a, *difference.at) : Json(nullptr)},
          {"other", difference.at ? around_json(b, *difference.at) : Json(nullptr)}};
}

}  // namespace ropewalk::tools
