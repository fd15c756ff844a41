#include <utility>

#include "formats/base64.h"
#include "formats/tokenizers/token_limits.h"
#include "formats/tokenizers/tokenizer_json.h"
#include "formats/utf8.h"

namespace ropewalk::formats {
namespace {

constexpr std::size_t kMaxContentBytes = 256;  // what one match can become
constexpr std::size_t kMaxSteps = 64;

std::string type_of(const JsonNode& node) { return node.require_object().at("type").string(); }

std::string short_string(const JsonNode& node) {
  std::string text = node.string();
  if (text.size() > kMaxContentBytes) node.unsupported("has more than " + std::to_string(kMaxContentBytes) + " bytes");
  return text;
}

std::string one_character(const JsonNode& node) {
  std::string text = node.string();
  if (text.empty() || text.size() != utf8_length(text[0])) node.fail("is not one character");
  return text;
}

TextPattern pattern_of(const JsonNode& node) {
  const JsonNode pattern = node.at("pattern").require_object();
  if (const auto text = pattern.find("String")) return {text->string(), false};
  if (const auto text = pattern.find("Regex")) return {text->string(), true};
  pattern.fail("has neither 'String' nor 'Regex'");
}

pre_tokenizers::SplitBehavior behavior_of(const JsonNode& node) {
  using enum pre_tokenizers::SplitBehavior;
  for (const auto& [name, behavior] :
       {std::pair{"Removed", removed}, std::pair{"Isolated", isolated},
        std::pair{"MergedWithPrevious", merged_with_previous}, std::pair{"MergedWithNext", merged_with_next},
        std::pair{"Contiguous", contiguous}})
    if (node.json() == name) return behavior;
  node.fail("is no behavior");
}

/// Sequences are flattened: `read` turns a step of another type into one.
template <class Step, class Read>
void read_steps(const JsonNode& node, const char* list, std::vector<Step>& out, const Read& read, int depth = 0) {
  if (type_of(node) != "Sequence") {
    out.push_back(read(type_of(node), node));
    if (out.size() > kMaxSteps) node.unsupported("is one step of more than " + std::to_string(kMaxSteps));
    return;
  }
  if (depth > 8) node.unsupported("is nested too deeply");
  const JsonNode steps = node.at(list).require_list();
  for (std::size_t at = 0; at < steps.size(); ++at) read_steps(steps.item(at), list, out, read, depth + 1);
}

normalizers::Step read_normalizer(const std::string& type, const JsonNode& node) {
  if (type == "NFC") return normalizers::UnicodeForm{true, false};
  if (type == "NFD") return normalizers::UnicodeForm{false, false};
  if (type == "NFKC") return normalizers::UnicodeForm{true, true};
  if (type == "NFKD") return normalizers::UnicodeForm{false, true};
  if (type == "Lowercase") return normalizers::Lowercase{};
  if (type == "Strip") return normalizers::Strip{node.at("strip_left").boolean(), node.at("strip_right").boolean()};
  if (type == "StripAccents") return normalizers::StripAccents{};
  if (type == "Replace") return normalizers::Replace{pattern_of(node), short_string(node.at("content"))};
  if (type == "Prepend") return normalizers::Prepend{short_string(node.at("prepend"))};
  if (type == "ByteLevel") return normalizers::ByteLevel{};
  if (type == "Nmt") return normalizers::Nmt{};
  if (type == "Precompiled") {
    const auto bytes = base64_bytes(node.at("precompiled_charsmap").string());
    if (!bytes || bytes->empty()) node.at("precompiled_charsmap").fail("is no base64, or empty");
    return normalizers::Precompiled{*bytes};
  }
  if (type == "BertNormalizer") {
    const bool lowercase = node.at("lowercase").boolean();
    return normalizers::Bert{node.at("clean_text").boolean(), node.at("handle_chinese_chars").boolean(),
                             node.boolean_or("strip_accents", lowercase), lowercase};
  }
  node.unsupported("is the normalizer '" + type + "', which is not known");
}

pre_tokenizers::Step read_metaspace(const JsonNode& node) {
  using pre_tokenizers::PrependScheme;
  const std::string scheme = node.string_or("prepend_scheme", "always");
  if (scheme != "always" && scheme != "first" && scheme != "never")
    node.at("prepend_scheme").fail("is no scheme: always, first or never");
  if (!node.boolean_or("add_prefix_space", true) && scheme != "never")
    node.at("add_prefix_space").fail("does not match the prepend_scheme '" + scheme + "'");
  return pre_tokenizers::Metaspace{one_character(node.at("replacement")),
                                   scheme == "always"  ? PrependScheme::always
                                   : scheme == "first" ? PrependScheme::first
                                                       : PrependScheme::never,
                                   node.boolean_or("split", true)};
}

pre_tokenizers::Step read_pre_tokenizer(const std::string& type, const JsonNode& node) {
  namespace pre = pre_tokenizers;
  if (type == "ByteLevel")
    return pre::ByteLevel{node.at("add_prefix_space").boolean(), node.boolean_or("use_regex", true)};
  if (type == "Split")
    return pre::Split{pattern_of(node), behavior_of(node.at("behavior")), node.at("invert").boolean()};
  if (type == "Digits") return pre::Digits{node.at("individual_digits").boolean()};
  if (type == "Metaspace") return read_metaspace(node);
  if (type == "Whitespace") return pre::Whitespace{};
  if (type == "WhitespaceSplit") return pre::WhitespaceSplit{};
  if (type == "Punctuation") {
    const auto behavior = node.find("behavior");
    return pre::Punctuation{behavior ? behavior_of(*behavior) : pre::SplitBehavior::isolated};
  }
  if (type == "BertPreTokenizer") return pre::Bert{};
  if (type == "CharDelimiterSplit" || type == "Delimiter")
    return pre::CharDelimiterSplit{one_character(node.at("delimiter"))};
  if (type == "FixedLength") {
    const auto length = node.find("length");
    return pre::FixedLength{length ? static_cast<std::uint64_t>(length->integer(1, 1 << 30)) : 5};
  }
  node.unsupported("is the pre-tokenizer '" + type + "', which is not known");
}

decoders::Step read_decoder(const std::string& type, const JsonNode& node) {
  if (type == "ByteLevel") return decoders::ByteLevel{};
  if (type == "ByteFallback") return decoders::ByteFallback{};
  if (type == "Fuse") return decoders::Fuse{};
  if (type == "Strip")
    return decoders::Strip{one_character(node.at("content")),
                           static_cast<std::uint64_t>(node.at("start").integer(0, 1 << 30)),
                           static_cast<std::uint64_t>(node.at("stop").integer(0, 1 << 30))};
  if (type == "Replace") return decoders::Replace{pattern_of(node), short_string(node.at("content"))};
  if (type == "Metaspace") {
    const auto step = std::get<pre_tokenizers::Metaspace>(read_metaspace(node));
    return decoders::Metaspace{step.replacement, step.prepend != pre_tokenizers::PrependScheme::never};
  }
  if (type == "BPEDecoder") return decoders::BpeSuffix{short_string(node.at("suffix"))};
  if (type == "WordPiece") return decoders::WordPiece{short_string(node.at("prefix")), node.at("cleanup").boolean()};
  if (type == "CTC")
    return decoders::Ctc{short_string(node.at("pad_token")), short_string(node.at("word_delimiter_token")),
                         node.at("cleanup").boolean()};
  node.unsupported("is the decoder '" + type + "', which is not known");
}

std::int32_t id_of(const JsonNode& node) { return static_cast<std::int32_t>(node.integer(0, kMaxTokenId)); }

/// ["[SEP]", 102]
std::int32_t id_of_pair(const JsonNode& node) {
  if (node.require_list().size() != 2) node.fail("is no pair of a token and its id");
  node.item(0).string();
  return id_of(node.item(1));
}

/// Wraps what earlier processors put there.
void wrap(const std::vector<std::int32_t>& before, const std::vector<std::int32_t>& after,
          TokenizerPipeline& pipeline) {
  pipeline.before.insert(pipeline.before.begin(), before.begin(), before.end());
  pipeline.after.insert(pipeline.after.end(), after.begin(), after.end());
}

void read_template(const JsonNode& node, TokenizerPipeline& pipeline) {
  const JsonNode pieces = node.at("single").require_list();
  std::vector<std::int32_t> around[2];
  bool text_seen = false;
  for (std::size_t at = 0; at < pieces.size(); ++at) {
    const JsonNode piece = pieces.item(at).require_object();
    if (const auto sequence = piece.find("Sequence")) {
      if (text_seen || sequence->require_object().at("id").string() != "A")
        piece.unsupported("is a text other than the one to encode");
      text_seen = true;
      continue;
    }
    const std::string name = piece.at("SpecialToken").require_object().at("id").string();
    const JsonNode ids = node.at("special_tokens").require_object().at(name).require_object().at("ids").require_list();
    for (std::size_t i = 0; i < ids.size(); ++i) around[text_seen].push_back(id_of(ids.item(i)));
    if (around[text_seen].size() > kMaxSteps) piece.unsupported("has too many ids");
  }
  if (!text_seen) pieces.unsupported("leaves the text out");
  wrap(around[0], around[1], pipeline);
}

void read_processor(const JsonNode& node, TokenizerPipeline& pipeline, int depth) {
  const std::string type = type_of(node);
  if (type == "ByteLevel") return;  // offsets only
  if (type == "TemplateProcessing") return read_template(node, pipeline);
  if (type == "BertProcessing" || type == "RobertaProcessing")
    return wrap({id_of_pair(node.at("cls"))}, {id_of_pair(node.at("sep"))}, pipeline);
  if (type != "Sequence" || depth > 8) node.unsupported("is the post-processor '" + type + "', which is not known");
  const JsonNode steps = node.at("processors").require_list();
  if (steps.size() > kMaxSteps) steps.unsupported("has too many steps");
  for (std::size_t at = 0; at < steps.size(); ++at) read_processor(steps.item(at), pipeline, depth + 1);
}

}  // namespace

std::vector<normalizers::Step> read_normalizers(const JsonNode& node) {
  std::vector<normalizers::Step> out;
  read_steps(node, "normalizers", out, read_normalizer);
  return out;
}

std::vector<pre_tokenizers::Step> read_pre_tokenizers(const JsonNode& node) {
  std::vector<pre_tokenizers::Step> out;
  read_steps(node, "pretokenizers", out, read_pre_tokenizer);
  return out;
}

std::vector<decoders::Step> read_decoders(const JsonNode& node) {
  std::vector<decoders::Step> out;
  read_steps(node, "decoders", out, read_decoder);
  return out;
}

void read_post_processor(const JsonNode& node, TokenizerPipeline& pipeline) { read_processor(node, pipeline, 0); }

}  // namespace ropewalk::formats
