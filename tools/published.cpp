#include "tools/published.h"

#include <limits>

#include "formats/json_fields.h"
#include "lib/error.h"

namespace ropewalk::tools {
namespace {

using formats::Json;

const char* const kWanted = "write it as perplexity --json does: docs/protocols.md";

/// The fields of one result; errors name it by its place in the list.
PublishedFigure figure_of(const std::string& path, const std::string& text, const Json& json, std::size_t index) {
  const std::string pointer = "/results/" + std::to_string(index);
  const auto fail = [&](const std::string& key, const std::string& problem) {
    throw Error(ErrorKind::bad_input, formats::json_place(path, text, pointer + key), problem, kWanted);
  };
  if (!json.is_object()) fail("", "is " + formats::shown(json) + ", expected an object");
  const auto value = [&](const char* key, auto good, const char* expected) -> const Json& {
    const auto found = json.find(key);
    if (found == json.end()) fail("", std::string("'") + key + "' is missing, expected " + expected);
    if (!good(*found))
      fail(std::string("/") + key,
           std::string("'") + key + "' is " + formats::shown(*found) + ", expected " + expected);
    return *found;
  };
  const auto is_size = [](const Json& one) {
    return one.is_number_integer() && one > 0 && one <= std::numeric_limits<int>::max();
  };
  const auto is_text = [](const Json& one) { return one.is_string(); };
  PublishedFigure out;
  out.source = value("source", is_text, "a name");
  out.protocol = value(
      "protocol", [](const Json& one) { return one.is_string() && verify::protocol_from_name(one.get<std::string>()); },
      "tokens, yarn, hf or llama.cpp");
  out.protocol = verify::protocol_name(*verify::protocol_from_name(out.protocol));
  out.context = value("context", is_size, "a number of tokens");
  const bool truncated =
      json.contains("truncated") && value(
                                        "truncated", [](const Json& one) { return one.is_boolean(); }, "true or false")
                                        .get<bool>();
  if (!truncated) out.stride = value("stride", is_size, "a number of tokens").get<int>();
  if (json.contains("tokens")) out.tokens = value("tokens", is_size, "a number of tokens").get<std::uint64_t>();
  out.perplexity = value(
                       "perplexity", [](const Json& one) { return one.is_number() && one > 0; }, "a number above 0")
                       .get<double>();
  return out;
}

}  // namespace

std::vector<PublishedFigure> parse_published(const std::string& path, const std::string& text) {
  const Json json = formats::parse_json(path, text);
  const auto fail = [&](const std::string& pointer, const std::string& problem) {
    throw Error(ErrorKind::bad_input, formats::json_place(path, text, pointer), problem, kWanted);
  };
  if (!json.is_object() || !json.contains("results") || !json["results"].is_array() || json["results"].empty())
    fail("", "has no 'results', expected a list of them");
  std::optional<std::string> hash;
  if (json.contains("corpus")) {
    const Json& corpus = json["corpus"];
    if (!corpus.is_object() || (corpus.contains("sha256") && !corpus["sha256"].is_string()))
      fail("/corpus", "'corpus' is " + formats::shown(corpus) + ", expected {\"sha256\": \"...\"}");
    if (corpus.contains("sha256")) hash = corpus["sha256"].get<std::string>();
  }
  std::vector<PublishedFigure> out;
  for (const Json& one : json["results"]) {
    out.push_back(figure_of(path, text, one, out.size()));
    out.back().text_sha256 = hash;
  }
  return out;
}

std::optional<std::string> not_comparable(const PublishedFigure& published, const verify::PerplexityResult& own,
                                          bool truncated, const std::string& text_sha256) {
  if (published.protocol != verify::protocol_name(own.protocol)) return "protocol " + published.protocol;
  if (!published.stride != truncated || (published.stride && *published.stride != own.stride))
    return published.stride ? "stride " + std::to_string(*published.stride) : "one window of each document";
  if (published.text_sha256 && *published.text_sha256 != text_sha256)
    return "another text, sha256 " + published.text_sha256->substr(0, 16);
  if (published.tokens && *published.tokens != own.tokens)  // other documents, fewer windows or another tokenizer
    return std::to_string(*published.tokens) + " tokens scored, here " + std::to_string(own.tokens);
  return std::nullopt;
}

}  // namespace ropewalk::tools
