#include "formats/tokenizers/tokenizer_json.h"

#include <algorithm>
#include <array>
#include <unordered_map>

#include "formats/tokenizers/bpe_merges.h"
#include "formats/tokenizers/token_limits.h"
#include "lib/file.h"

namespace ropewalk::formats {
namespace {

constexpr std::size_t kMaxAffixBytes = 64;

std::optional<std::string> affix(const JsonNode& model, const char* key) {
  auto text = model.optional_string(key);
  if (text && text->size() > kMaxAffixBytes) model.at(key).unsupported("has more than 64 bytes");
  return text;
}

/// "a b" or ["a", "b"].
std::pair<std::string, std::string> pair_of(const JsonNode& merge, const MergeFailure& fail) {
  if (!merge.json().is_array()) return split_merge(merge.string(), fail);
  if (merge.size() != 2) merge.fail("is no pair of pieces");
  return {merge.item(0).string(), merge.item(1).string()};
}

BpeModel read_bpe(const JsonNode& model, Vocabulary& vocabulary) {
  read_piece_ids(model.at("vocab"), vocabulary);
  if (const auto dropout = model.find("dropout"); dropout && dropout->number() != 0)
    dropout->unsupported("asks for random merges");
  BpeModel out;
  out.unk_token = model.optional_string("unk_token");
  out.continuing_subword_prefix = affix(model, "continuing_subword_prefix");
  out.end_of_word_suffix = affix(model, "end_of_word_suffix");
  out.fuse_unk = model.boolean_or("fuse_unk", false);
  out.byte_fallback = model.boolean_or("byte_fallback", false);
  out.ignore_merges = model.boolean_or("ignore_merges", false);
  // The library takes an empty prefix as one that adds nothing.
  if (out.continuing_subword_prefix == "") out.continuing_subword_prefix.reset();
  if (out.end_of_word_suffix == "") out.end_of_word_suffix.reset();
  const std::size_t prefix = out.continuing_subword_prefix ? out.continuing_subword_prefix->size() : 0;

  const PieceIds ids = ids_of_pieces(vocabulary);
  const JsonNode merges = model.at("merges").require_list();
  const bool spelled = merges.size() > 0 && merges.json()[0].is_string();
  for (std::size_t rank = 0; rank < merges.size(); ++rank) {
    const Json& json = merges.json()[rank];
    if (spelled != json.is_string()) merges.item(rank).fail("is spelled otherwise than the first merge");
    if (spelled && json.get_ref<const std::string&>().starts_with("#version")) continue;
    const MergeFailure fail = [&merges, rank](const std::string& problem) { merges.item(rank).fail(problem); };
    out.merges.push_back(merge_of(pair_of(merges.item(rank), fail), ids, prefix, fail));
  }
  return out;
}

WordPieceModel read_word_piece(const JsonNode& model, Vocabulary& vocabulary) {
  read_piece_ids(model.at("vocab"), vocabulary);
  model.at("continuing_subword_prefix");  // the library has no default for it
  return {model.at("unk_token").string(), *affix(model, "continuing_subword_prefix"),
          static_cast<std::uint64_t>(model.at("max_input_chars_per_word").integer(0, 1000))};
}

UnigramModel read_unigram(const JsonNode& model, Vocabulary& vocabulary) {
  const JsonNode vocab = model.at("vocab").require_list();
  UnigramModel out;
  PieceIds seen;
  vocabulary.pieces.reserve(vocab.size());  // keys of `seen` stay where they are
  for (std::size_t id = 0; id < vocab.size(); ++id) {
    const JsonNode piece = vocab.item(id).require_list();
    if (piece.size() != 2) piece.fail("is no pair of a piece and its score");
    vocabulary.pieces.push_back({piece.item(0).string(), 0, PieceType::normal});
    const std::string& text = vocabulary.pieces.back().text;
    if (text.size() > kMaxTokenBytes) piece.unsupported("has more than 4096 bytes");
    if (const auto [first, is_new] = seen.emplace(text, static_cast<std::int32_t>(id)); !is_new)
      piece.fail("is '" + text + "', which is 'model/vocab/" + std::to_string(first->second) + "' already");
    out.scores.push_back(piece.item(1).number());
    vocabulary.pieces.back().score = static_cast<float>(out.scores.back());
  }
  if (const auto unk = model.find("unk_id"); unk && vocab.size() > 0)  // without pieces it is refused for that
    out.unk_id = static_cast<std::int32_t>(unk->integer(0, static_cast<std::int64_t>(vocab.size()) - 1));
  out.byte_fallback = model.boolean_or("byte_fallback", false);
  return out;
}

TokenizerModel read_model(const JsonNode& model, Vocabulary& vocabulary) {
  const Json& said = model.require_object().json();
  if (said.contains("type") && said["type"].is_null()) model.fail("is of type null, expected a string");
  // Old files name no type; merges are BPE's alone.
  const std::string type = model.string_or("type", model.find("merges") ? "BPE" : "");
  if (type == "BPE") return read_bpe(model, vocabulary);
  if (type == "WordPiece") return read_word_piece(model, vocabulary);
  if (type == "Unigram") return read_unigram(model, vocabulary);
  if (type == "WordLevel") {
    read_piece_ids(model.at("vocab"), vocabulary);
    return WordLevelModel{model.at("unk_token").string()};
  }
  model.unsupported("is of type '" + type + "', which is not known");
}

void read_added_tokens(const JsonNode& list, Vocabulary& vocabulary) {
  const PieceIds pieces = ids_of_pieces(vocabulary);
  std::unordered_map<std::string, std::size_t> known;  // in vocabulary.added
  auto next_id = static_cast<std::int64_t>(pieces.size());
  for (std::size_t at = 0; at < list.require_list().size(); ++at) {
    const JsonNode node = list.item(at).require_object();
    AddedToken token{.content = node.at("content").string(), .in_decoder = true};
    node.at("id").integer(0, kMaxTokenId);
    if (token.content.empty()) continue;
    if (token.content.size() > kMaxTokenBytes) node.unsupported("has more than 4096 bytes");
    token.special = node.at("special").boolean();
    token.lstrip = node.at("lstrip").boolean();
    token.rstrip = node.at("rstrip").boolean();
    token.single_word = node.at("single_word").boolean();
    token.normalized = node.at("normalized").boolean();
    if (const auto [place, fresh] = known.emplace(token.content, vocabulary.added.size()); !fresh) {
      token.id = vocabulary.added[place->second].id;
      vocabulary.added[place->second] = token;  // the last one counts
      continue;
    }
    const auto piece = pieces.find(token.content);
    token.id = piece != pieces.end() ? piece->second : static_cast<std::int32_t>(next_id++);
    vocabulary.added.push_back(token);
  }
  std::sort(vocabulary.added.begin(), vocabulary.added.end(), [](const auto& a, const auto& b) { return a.id < b.id; });
  for (const AddedToken& token : vocabulary.added) {
    if (static_cast<std::size_t>(token.id) >= vocabulary.pieces.size()) continue;
    Piece& piece = vocabulary.pieces[static_cast<std::size_t>(token.id)];
    if (piece.text == token.content) piece.type = token.special ? PieceType::control : PieceType::user_defined;
  }
}

const char* model_name(const TokenizerModel& model) {
  constexpr const char* kNames[] = {"bpe", "wordlevel", "wordpiece", "unigram"};
  return kNames[model.index()];
}

/// The library takes no key but its own, and null for what may be left out but for two.
void check_keys(const std::string& path, std::string_view text, const Json& json) {
  constexpr std::array kKeys = {"version",       "truncation",     "padding", "added_tokens", "normalizer",
                                "pre_tokenizer", "post_processor", "decoder", "model"};
  for (const auto& [key, value] : json.items()) {
    const JsonNode node(path, text, value, "/" + pointer_segment(key));
    if (std::find(kKeys.begin(), kKeys.end(), key) == kKeys.end()) node.fail("is no key of a tokenizer.json");
    if (value.is_null() && (key == "version" || key == "added_tokens"))
      node.fail(std::string("is null, expected ") + (key == "version" ? "a string" : "a list"));
    if (!value.is_null() && (key == "truncation" || key == "padding")) node.require_object();
  }
}

void read_around(const JsonNode& file, std::int64_t ids_end, TokenizerPipeline& pipeline) {
  const auto node = file.find("post_processor");
  if (!node) return;
  read_post_processor(*node, pipeline);
  for (const auto* ids : {&pipeline.before, &pipeline.after})
    for (std::int32_t id : *ids)
      if (id >= ids_end) node->fail("names the id " + std::to_string(id) + " of " + std::to_string(ids_end));
}

}  // namespace

Vocabulary parse_tokenizer_json(const std::string& path, std::string_view text) {
  const Json json = parse_json(path, text);
  const JsonNode file(path, text, json);
  file.require_object();
  check_keys(path, text, json);
  if (file.string_or("version", "1.0") != "1.0") file.at("version").unsupported("is not 1.0");
  Vocabulary vocabulary;
  vocabulary.rules = TokenizerRules::tokenizers;
  TokenizerPipeline& pipeline = vocabulary.pipeline.emplace();
  pipeline.model = read_model(file.at("model"), vocabulary);
  vocabulary.model = model_name(pipeline.model);
  if (const auto node = file.find("normalizer")) pipeline.normalizers = read_normalizers(*node);
  if (const auto node = file.find("pre_tokenizer")) pipeline.pre_tokenizers = read_pre_tokenizers(*node);
  if (const auto node = file.find("decoder")) {
    pipeline.decoders = read_decoders(*node);
    pipeline.has_decoder = true;
  }
  if (const auto node = file.find("added_tokens")) read_added_tokens(*node, vocabulary);
  if (vocabulary.pieces.empty() && vocabulary.added.empty()) file.fail("has no pieces");
  read_around(file, id_count(vocabulary), pipeline);
  return vocabulary;
}

AroundText read_around_text(const std::filesystem::path& path, std::int64_t ids_end) {
  const std::string name = path.string(), text = read_text_file(path, JsonLimits{}.max_bytes);
  const Json json = parse_json(name, text);
  TokenizerPipeline pipeline;
  read_around(JsonNode(name, text, json).require_object(), ids_end, pipeline);
  return {std::move(pipeline.before), std::move(pipeline.after)};
}

Vocabulary read_tokenizer_json(const std::filesystem::path& path) {
  return parse_tokenizer_json(path.string(), read_text_file(path, JsonLimits{}.max_bytes));
}

}  // namespace ropewalk::formats
