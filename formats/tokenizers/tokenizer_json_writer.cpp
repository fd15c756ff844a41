#include "formats/tokenizers/tokenizer_json_writer.h"

#include <set>
#include <unordered_set>

#include "formats/gguf_token_lists.h"
#include "formats/json.h"
#include "formats/tokenizers/pre_tokenizer_names.h"
#include "lib/error.h"

namespace ropewalk::formats {
namespace {

[[noreturn]] void refuse(const std::string& problem) {
  throw Error(ErrorKind::unsupported, {}, problem, "name a folder with the model's own tokenizer: --tokenizer DIR");
}

Json byte_level(bool use_regex) {
  return {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", use_regex}};
}

Json step_json(const pre_tokenizers::Step& step) {
  if (const auto* digits = std::get_if<pre_tokenizers::Digits>(&step))
    return {{"type", "Digits"}, {"individual_digits", digits->individual}};
  if (const auto* split = std::get_if<pre_tokenizers::Split>(&step))
    return {{"type", "Split"},
            {"pattern", {{"Regex", split->pattern.text}}},
            {"behavior", "Isolated"},
            {"invert", split->invert}};
  return byte_level(std::get<pre_tokenizers::ByteLevel>(step).use_regex);
}

Json pre_tokenizer_json(const LlamaCppPre& pre) {
  const auto steps = steps_of_pre_tokenizer(pre);
  if (!steps) refuse("llama.cpp's pre-tokenizer '" + std::string(pre.name) + "' cannot be said in a tokenizer.json");
  if (steps->size() == 1) return step_json(steps->front());
  Json list = Json::array();
  for (const pre_tokenizers::Step& step : *steps) list.push_back(step_json(step));
  return {{"type", "Sequence"}, {"pretokenizers", std::move(list)}};
}

/// BOS and EOS around one text and two, where they are added.
Json template_json(const Vocabulary& vocabulary, bool bos, bool eos) {
  const auto text = [&](std::int32_t id) { return vocabulary.pieces[static_cast<std::size_t>(id)].text; };
  Json special = Json::object();
  const auto whole = [&](std::initializer_list<const char*> texts) {
    Json items = Json::array();
    for (int type = 0; const char* one : texts) {
      const auto put = [&](std::int32_t id) {
        items.push_back({{"SpecialToken", {{"id", text(id)}, {"type_id", type}}}});
        special[text(id)] = {{"id", text(id)}, {"ids", Json::array({id})}, {"tokens", Json::array({text(id)})}};
      };
      if (bos) put(*vocabulary.bos);
      items.push_back({{"Sequence", {{"id", one}, {"type_id", type}}}});
      if (eos) put(*vocabulary.eos);
      ++type;
    }
    return items;
  };
  Json single = whole({"A"}), pair = whole({"A", "B"});
  return {{"type", "TemplateProcessing"},
          {"single", std::move(single)},
          {"pair", std::move(pair)},
          {"special_tokens", std::move(special)}};
}

Json post_processor_json(const Vocabulary& vocabulary) {
  Json bytes = {{"type", "ByteLevel"}, {"add_prefix_space", true}, {"trim_offsets", false}, {"use_regex", true}};
  const bool bos = vocabulary.add_bos.value_or(false) && vocabulary.bos,
             eos = vocabulary.add_eos.value_or(false) && vocabulary.eos;
  if (!bos && !eos) return bytes;
  Json both = Json::array({std::move(bytes), template_json(vocabulary, bos, eos)});
  return {{"type", "Sequence"}, {"processors", std::move(both)}};
}

/// What stands in the text as itself: matched before it is cut into words.
bool is_added(const Piece& piece) {
  return piece.type == PieceType::control || piece.type == PieceType::user_defined || piece.type == PieceType::unknown;
}

Json added_json(const Vocabulary& vocabulary) {
  Json list = Json::array();
  auto flags = vocabulary.added.begin();  // by id
  for (std::size_t id = 0; id < vocabulary.pieces.size(); ++id) {
    const Piece& piece = vocabulary.pieces[id];
    while (flags != vocabulary.added.end() && static_cast<std::size_t>(flags->id) < id) ++flags;
    const bool known = flags != vocabulary.added.end() && static_cast<std::size_t>(flags->id) == id;
    if (!is_added(piece)) continue;
    list.push_back({{"id", id},
                    {"content", piece.text},
                    {"single_word", known && flags->single_word},
                    {"lstrip", known && flags->lstrip},
                    {"rstrip", known && flags->rstrip},
                    {"normalized", false},
                    {"special", piece.type != PieceType::user_defined}});
  }
  return list;
}

Json model_json(const Vocabulary& vocabulary, const LlamaCppPre& pre) {
  Json pieces = Json::object();
  std::unordered_set<std::string_view> known;
  auto& members = pieces.get_ref<Json::object_t&>();  // its own insertion looks through all that are there
  for (std::size_t id = 0; id < vocabulary.pieces.size(); ++id) {
    const Piece& piece = vocabulary.pieces[id];
    if (is_filler(piece, id)) continue;
    known.insert(piece.text);
    members.emplace_back(piece.text, id);
  }
  Json merges = Json::array();
  std::set<std::pair<std::string_view, std::string_view>> listed;  // of a pair twice, llama.cpp means the first
  for (const auto& [left, right] : vocabulary.gguf_bpe->merges) {
    if (!listed.emplace(left, right).second) continue;
    if (!known.contains(left) || !known.contains(right) || !known.contains(left + right))
      refuse("the GGUF's merge of '" + left + "' and '" + right + "' makes no token, which no tokenizer.json may");
    merges.push_back(Json::array({left, right}));
  }
  return {{"type", "BPE"},
          {"dropout", nullptr},
          {"unk_token", nullptr},
          {"continuing_subword_prefix", nullptr},
          {"end_of_word_suffix", nullptr},
          {"fuse_unk", false},
          {"byte_fallback", false},
          {"ignore_merges", pre.ignore_merges},
          {"vocab", std::move(pieces)},
          {"merges", std::move(merges)}};
}

}  // namespace

std::string tokenizer_json(const Vocabulary& vocabulary) {
  const LlamaCppPre& pre = *find_llama_cpp_pre(vocabulary.gguf_bpe->pre);
  const Json json = {{"version", "1.0"},
                     {"truncation", nullptr},
                     {"padding", nullptr},
                     {"added_tokens", added_json(vocabulary)},
                     {"normalizer", nullptr},
                     {"pre_tokenizer", pre_tokenizer_json(pre)},
                     {"post_processor", post_processor_json(vocabulary)},
                     {"decoder", byte_level(true)},
                     {"model", model_json(vocabulary, pre)}};
  return json.dump(2) + "\n";
}

}  // namespace ropewalk::formats
