#include "tools/token_difference.h"

#include <algorithm>

#include "tools/render.h"
#include "tools/units.h"

namespace ropewalk::tools {
namespace {

constexpr std::size_t kTokensBefore = 3, kTokensAfter = 4;  // the one that differs is of the latter

std::size_t first_shown(std::size_t at) { return at - std::min(at, kTokensBefore); }

std::string around(const TokenizedText& tokens, std::size_t at) {
  std::string out;
  for (std::size_t i = first_shown(at); i < std::min(tokens.ids.size(), at + kTokensAfter); ++i)
    out += std::string(out.empty() ? "" : " ") + (i == at ? ">" : "") + std::to_string(tokens.ids[i]) + "(" +
           formats::on_one_line(tokens.tokenizer->piece(tokens.ids[i])) + ")";
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
  if (auto place = formats::place_after(*a.tokenizer, std::span(a.ids).subspan(begin, at - begin), text))
    difference.place = TokenDifference::Place{std::move(*place), corpus.names[document]};
  return difference;
}

std::string difference_text(const TokenDifference& difference, const TokenizedText& a, const TokenizedText& b) {
  if (!difference.at) return b.source + ": the same " + plural(a.ids.size(), "id") + " as " + a.source;
  std::string out = "first difference at token " + std::to_string(*difference.at);
  if (const auto& place = difference.place) out += ", " + place->document + " " + formats::described(*place);
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
