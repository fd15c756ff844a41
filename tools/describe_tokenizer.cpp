#include "tools/describe_tokenizer.h"

#include "formats/gguf_other_ids.h"

#include <algorithm>

#include "formats/tokenizers/tokenizer.h"
#include "formats/tokenizers/tokenizer_file.h"
#include "tools/one_line.h"
#include "tools/units.h"

namespace ropewalk::tools {
namespace {

const char* rules_name(TokenizerRules rules) {
  switch (rules) {
    case TokenizerRules::llama_cpp: return "llama.cpp";
    case TokenizerRules::tokenizers: return "tokenizers";
    case TokenizerRules::sentencepiece: break;
  }
  return "sentencepiece";
}

bool has_byte_fallback(const Vocabulary& vocabulary) {
  if (!vocabulary.pipeline) return vocabulary.byte_fallback;
  if (const auto* bpe = std::get_if<BpeModel>(&vocabulary.pipeline->model)) return bpe->byte_fallback;
  const auto* unigram = std::get_if<UnigramModel>(&vocabulary.pipeline->model);
  return unigram && unigram->byte_fallback;
}

/// "a tokenizer.json": what a vocabulary with a pipeline was read from.
std::string file_text(const std::filesystem::path& folder) {
  const std::string name = formats::tokenizer_file(folder).filename().string();
  return name == "tokenizer.json" ? "a tokenizer.json"
         : name == "vocab.json"   ? "vocab.json and merges.txt"
                                  : "a tiktoken file";
}

/// "byte-level BPE of a tokenizer.json, 280147 merges"
std::string kind_text(const Vocabulary& vocabulary, const std::filesystem::path& folder) {
  if (vocabulary.gguf_bpe)
    return "BPE with pre-tokenizer '" + vocabulary.gguf_bpe->pre + "', " +
           plural(vocabulary.gguf_bpe->merges.size(), "merge");
  const std::string fallback = has_byte_fallback(vocabulary) ? " with byte fallback" : "";
  if (vocabulary.model == "plamo2") return "PLaMo 2's unigram" + fallback;
  if (!vocabulary.pipeline)
    return (vocabulary.model == "unigram" ? "SentencePiece unigram" : "SentencePiece BPE") + fallback;
  const TokenizerPipeline& pipeline = *vocabulary.pipeline;
  const auto* bpe = std::get_if<BpeModel>(&pipeline.model);
  const std::string file = " of " + file_text(folder);
  if (!bpe) return vocabulary.model + fallback + file;
  const bool byte_level =
      std::any_of(pipeline.pre_tokenizers.begin(), pipeline.pre_tokenizers.end(),
                  [](const auto& step) { return std::holds_alternative<pre_tokenizers::ByteLevel>(step); });
  return (byte_level ? "byte-level BPE" : "BPE") + fallback + file +
         (bpe->rank_by_result ? "" : ", " + plural(bpe->merges.size(), "merge"));
}

struct NormalizerName {
  std::string operator()(const normalizers::UnicodeForm& step) const {
    return std::string("NF") + (step.compatible ? "K" : "") + (step.compose ? "C" : "D");
  }
  std::string operator()(const normalizers::Lowercase&) const { return "Lowercase"; }
  std::string operator()(const normalizers::Strip&) const { return "Strip"; }
  std::string operator()(const normalizers::StripAccents&) const { return "StripAccents"; }
  std::string operator()(const normalizers::Replace& step) const {
    return (step.pattern.is_regex ? "Replace /" : "Replace '") + step.pattern.text +
           (step.pattern.is_regex ? "/ by '" : "' by '") + step.content + "'";
  }
  std::string operator()(const normalizers::Prepend& step) const { return "Prepend '" + step.text + "'"; }
  std::string operator()(const normalizers::ByteLevel&) const { return "ByteLevel"; }
  std::string operator()(const normalizers::Nmt&) const { return "Nmt"; }
  std::string operator()(const normalizers::Precompiled& step) const {
    return "Precompiled (a table of " + bytes_text(step.charsmap.size()) + ")";
  }
  std::string operator()(const normalizers::Bert&) const { return "Bert"; }
};

struct PreTokenizerName {
  std::string operator()(const pre_tokenizers::ByteLevel& step) const {
    return step.use_regex ? "ByteLevel with GPT-2's words" : "ByteLevel";
  }
  std::string operator()(const pre_tokenizers::Split& step) const {
    return step.pattern.is_regex ? "Split by a regular expression of " + plural(step.pattern.text.size(), "byte")
                                 : "Split at '" + step.pattern.text + "'";
  }
  std::string operator()(const pre_tokenizers::Digits& step) const {
    return step.individual ? "Digits one by one" : "Digits";
  }
  std::string operator()(const pre_tokenizers::Metaspace&) const { return "Metaspace"; }
  std::string operator()(const pre_tokenizers::Whitespace&) const { return "Whitespace"; }
  std::string operator()(const pre_tokenizers::WhitespaceSplit&) const { return "WhitespaceSplit"; }
  std::string operator()(const pre_tokenizers::Punctuation&) const { return "Punctuation"; }
  std::string operator()(const pre_tokenizers::Bert&) const { return "Bert"; }
  std::string operator()(const pre_tokenizers::CharDelimiterSplit& step) const {
    return "CharDelimiterSplit at '" + step.delimiter + "'";
  }
  std::string operator()(const pre_tokenizers::FixedLength& step) const {
    return "FixedLength of " + std::to_string(step.length);
  }
};

std::vector<std::string> normalizer_names(const Vocabulary& vocabulary) {
  std::vector<std::string> names;
  if (vocabulary.pipeline) {
    for (const auto& step : vocabulary.pipeline->normalizers) names.push_back(std::visit(NormalizerName{}, step));
    return names;
  }
  if (vocabulary.gguf_bpe) return names;
  if (!vocabulary.precompiled_charsmap.empty())
    names.push_back(
        (vocabulary.normalizer_name == "identity" ? "a table of " : vocabulary.normalizer_name + ", a table of ") +
        bytes_text(vocabulary.precompiled_charsmap.size()));
  if (vocabulary.remove_extra_whitespaces) names.emplace_back("extra spaces removed");
  if (vocabulary.add_dummy_prefix)
    names.emplace_back(vocabulary.whitespace_as_suffix ? "a space at the end" : "a space in front");
  return names;
}

std::vector<std::string> pre_tokenizer_names(const Vocabulary& vocabulary) {
  std::vector<std::string> names;
  if (vocabulary.gguf_bpe) names.push_back("llama.cpp's '" + vocabulary.gguf_bpe->pre + "'");
  if (vocabulary.pipeline)
    for (const auto& step : vocabulary.pipeline->pre_tokenizers) names.push_back(std::visit(PreTokenizerName{}, step));
  return names;
}

std::string joined(const std::vector<std::string>& names, const char* none) {
  std::string out;
  for (const std::string& name : names) out += (out.empty() ? "" : ", ") + name;
  return out.empty() ? none : out;
}

/// "1 '<s>'"
std::string id_text(const Vocabulary& vocabulary, std::int32_t id) {
  return std::to_string(id) + " '" + formats::text_of_id(vocabulary, id) + "'";
}

std::string special_text(const Vocabulary& vocabulary) {
  std::vector<std::string> parts;
  const auto add = [&](const char* name, std::optional<std::int32_t> id) {
    if (id) parts.push_back(name + std::string(" ") + id_text(vocabulary, *id));
  };
  add("bos", vocabulary.bos);
  add("eos", vocabulary.eos);
  add("unk", vocabulary.unk);
  add("pad", vocabulary.pad);
  if (vocabulary.bos && vocabulary.add_bos.value_or(true)) parts.emplace_back("bos begins a text");
  if (vocabulary.eos && vocabulary.add_eos.value_or(false)) parts.emplace_back("eos ends it");
  return joined(parts, "none");
}

/// Empty where an id has none.
std::vector<std::string> texts_of_ids(const Vocabulary& vocabulary) {
  std::vector<std::string> texts(static_cast<std::size_t>(id_count(vocabulary)));
  for (std::size_t id = 0; id < vocabulary.pieces.size(); ++id)
    if (vocabulary.pieces[id].type != PieceType::unused) texts[id] = vocabulary.pieces[id].text;
  for (const AddedToken& token : vocabulary.added)
    if (token.id >= 0) texts[static_cast<std::size_t>(token.id)] = token.content;
  return texts;
}

std::size_t n_special(const Vocabulary& vocabulary) {
  return static_cast<std::size_t>(std::count_if(vocabulary.added.begin(), vocabulary.added.end(),
                                                [](const AddedToken& token) { return token.special; }));
}

}  // namespace

std::string vocabulary_text(const std::optional<Vocabulary>& vocabulary, const std::filesystem::path& folder) {
  if (!vocabulary) return "none beside the weights";
  std::string out = std::to_string(vocabulary->pieces.size()) + " pieces, " + kind_text(*vocabulary, folder);
  if (!vocabulary->added.empty()) out += ", " + std::to_string(vocabulary->added.size()) + " added";
  if (const std::size_t special = n_special(*vocabulary)) out += " (" + std::to_string(special) + " special)";
  if (vocabulary->rules == TokenizerRules::llama_cpp) out += ", by llama.cpp's rules";
  return out;
}

std::vector<std::pair<std::string, std::string>> vocabulary_lines(const std::optional<Vocabulary>& vocabulary,
                                                                  int n_vocab) {
  if (!vocabulary) return {};
  std::vector<std::pair<std::string, std::string>> lines = {
      {"  normalizer", joined(normalizer_names(*vocabulary), "none")}};
  if (const auto names = pre_tokenizer_names(*vocabulary); !names.empty())
    lines.emplace_back("  words", joined(names, "none"));
  lines.emplace_back("  special tokens", special_text(*vocabulary));
  std::string templates;
  for (const ChatTemplate& one : vocabulary->chat_templates)
    templates += (templates.empty() ? "" : ", ") + one.name + " (" + bytes_text(one.text.size()) + ")";
  lines.emplace_back("  chat template", templates.empty() ? "none" : templates);
  if (const std::int64_t spare = n_vocab - id_count(*vocabulary); spare != 0)
    lines.emplace_back("  embedding", plural(static_cast<std::uint64_t>(std::abs(spare)), "row") +
                                          (spare > 0 ? " more than ids" : " fewer than ids"));
  return lines;
}

Json vocabulary_json(const std::optional<Vocabulary>& vocabulary, int n_vocab) {
  if (!vocabulary) return nullptr;
  const auto id = [](std::optional<std::int32_t> value) { return value ? Json(*value) : Json(nullptr); };
  const auto flag = [](std::optional<bool> value) { return value ? Json(*value) : Json(nullptr); };
  Json templates = Json::array();
  for (const ChatTemplate& one : vocabulary->chat_templates) templates.push_back(one.name);
  return {{"model", vocabulary->model},
          {"rules", rules_name(vocabulary->rules)},
          {"pieces", vocabulary->pieces.size()},
          {"added", vocabulary->added.size()},
          {"special", n_special(*vocabulary)},
          {"byte_fallback", has_byte_fallback(*vocabulary)},
          {"normalizer", normalizer_names(*vocabulary)},
          {"pre_tokenizer", pre_tokenizer_names(*vocabulary)},
          {"bos", id(vocabulary->bos)},
          {"eos", id(vocabulary->eos)},
          {"unk", id(vocabulary->unk)},
          {"pad", id(vocabulary->pad)},
          {"add_bos", flag(vocabulary->add_bos)},
          {"add_eos", flag(vocabulary->add_eos)},
          {"chat_template", vocabulary->chat_template.has_value()},
          {"chat_templates", templates},
          {"rows_without_id", std::max<std::int64_t>(0, n_vocab - id_count(*vocabulary))}};
}

std::vector<std::string> vocabulary_warnings(const std::optional<Vocabulary>& vocabulary, const Json& config,
                                             int n_vocab) {
  std::vector<std::string> out;
  // Padding to a multiple of 128 or so is usual, and some families keep a few hundred rows in reserve.
  if (const std::int64_t ids = vocabulary ? id_count(*vocabulary) : n_vocab; ids * 2 < n_vocab)
    out.push_back("the tokenizer has " + std::to_string(ids) + " ids for the embedding's " + std::to_string(n_vocab) +
                  " rows: is it this model's?");
  for (const char* key : {"bos_token_id", "eos_token_id", "pad_token_id"}) {
    if (!config.is_object() || !config.contains(key) || config[key].is_null()) continue;
    const Json ids = config[key].is_array() ? config[key] : Json::array({config[key]});
    for (const Json& id : ids) {
      if (id.is_number_integer() && id >= 0 && id < n_vocab) continue;
      out.push_back("config.json: " + std::string(key) + " is " + one_line(id.dump()).substr(0, 40) +
                    ", expected an id from 0 to " + std::to_string(n_vocab - 1));
    }
  }
  return out;
}

std::string vocabulary_changes(const Vocabulary& base, const Vocabulary& other) {
  constexpr std::size_t kShown = 3;
  const auto n_base = id_count(base), n_other = id_count(other);
  const std::vector<std::string> texts = texts_of_ids(base), others = texts_of_ids(other);
  std::string added, changed;
  std::uint64_t n_added = 0, n_changed = 0;
  for (std::size_t id = 0; id < others.size(); ++id) {
    if (id >= texts.size() || (texts[id].empty() && !others[id].empty())) {
      if (n_added++ < kShown) added += (added.empty() ? "'" : ", '") + one_line(others[id]) + "'";
    } else if (texts[id] != others[id] && n_changed++ == 0) {
      changed = std::to_string(id) + " is '" + one_line(others[id]) + "', not '" + one_line(texts[id]) + "'";
    }
  }
  std::string out;
  if (n_added > 0)
    out = plural(n_added, "token") + " more than the base's: " + added + (n_added > kShown ? ", ..." : "");
  if (n_other < n_base)
    out += (out.empty() ? "" : "; ") + plural(static_cast<std::uint64_t>(n_base - n_other), "id") +
           " fewer than the base's";
  if (n_changed > 0) out += (out.empty() ? "" : "; ") + plural(n_changed, "id") + " of another text: " + changed;
  return out;
}

void warn_of_vocabulary(const formats::Source& source, const CommonOptions& common, const Io& io,
                        std::vector<std::string>& warnings) {
  const Checkpoint& model = source.checkpoint;
  for (std::string& line :
       vocabulary_warnings(model.vocabulary, source.hf ? source.hf->config : Json(), model.config.n_vocab)) {
    warn(line, common, io);
    warnings.push_back(std::move(line));
  }
}

void warn_of_config_ids(const formats::Source& source, const CommonOptions& common, const Io& io,
                        std::vector<std::string>& warnings) {
  for (std::string& line : formats::ids_of_another_tokenizer(source)) {
    warn(line, common, io);
    warnings.push_back(std::move(line));
  }
}

}  // namespace ropewalk::tools
