#include "formats/tokenizers/vocab_merges.h"

#include <algorithm>

#include "formats/tokenizers/bpe_merges.h"
#include "formats/tokenizers/characters.h"
#include "formats/tokenizers/published_words.h"
#include "lib/file.h"

namespace ropewalk::formats {
namespace {

namespace pre = pre_tokenizers;

constexpr std::uint64_t kMaxMergesBytes = std::uint64_t{64} << 20;

BpeModel read_merges(const std::filesystem::path& path, const PieceIds& ids) {
  const std::string text = read_text_file(path, kMaxMergesBytes);
  BpeModel model;
  int line_number = 0;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find('\n', begin), text.size());
    std::string_view line = std::string_view(text).substr(begin, end - begin);
    begin = end + 1;
    ++line_number;
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.starts_with("#version") || (line.empty() && begin >= text.size())) continue;
    const MergeFailure fail = [&path, line_number](const std::string& problem) {
      throw Error(ErrorKind::bad_input, {.path = path.string(), .line = line_number, .column = 1},
                  "the merge " + problem, "fetch the file again or repair it");
    };
    model.merges.push_back(merge_of(split_merge(line, fail), ids, 0, fail));
  }
  return model;
}

bool is_one_character(std::string_view text) { return !text.empty() && first_character(text).length == text.size(); }

/// A file cut at the end of a line is otherwise one with fewer merges: pieces are numbered as merges make them, so the
/// one behind the last that is made should be none that two others give. Not special tokens, which follow too.
void refuse_cut_merges(const std::string& path, const BpeModel& model, const Vocabulary& vocabulary,
                       const PieceIds& ids) {
  const auto& pieces = vocabulary.pieces;
  std::size_t next = 0;
  for (const auto& merge : model.merges) next = std::max(next, static_cast<std::size_t>(merge.result) + 1);
  while (model.merges.empty() && next < pieces.size() && is_one_character(pieces[next].text)) ++next;
  if (next == 0 || next >= pieces.size() || pieces[next].type == PieceType::unused) return;
  const std::string_view text = pieces[next].text;
  if (text.empty() || is_one_character(text) || (text.starts_with('<') && text.ends_with('>')) ||
      (text.starts_with('[') && text.ends_with(']')))
    return;
  for (std::size_t at = first_character(text).length; at < text.size(); at += first_character(text.substr(at)).length)
    if (ids.contains(text.substr(0, at)) && ids.contains(text.substr(at)))
      throw Error(ErrorKind::bad_input, {.path = path},
                  "its merges (" + std::to_string(model.merges.size()) + ") make no token past id " +
                      std::to_string(next - 1) + ", and vocab.json goes on with '" + std::string(text) +
                      "', which its tokens '" + std::string(text.substr(0, at)) + "' and '" +
                      std::string(text.substr(at)) + "' give: the file is cut short",
                  "fetch it again; or add the tokenizer.json, if no merge is meant");
}

}  // namespace

Vocabulary read_vocab_merges(const std::filesystem::path& folder, std::string_view tokenizer_class,
                             bool add_prefix_space) {
  std::string_view name = tokenizer_class;
  if (name.ends_with("Fast")) name.remove_suffix(4);
  if (name != "GPT2Tokenizer" && name != "Qwen2Tokenizer")
    throw Error(ErrorKind::unsupported, {.path = folder.string()},
                tokenizer_class.empty()
                    ? std::string("vocab.json and merges.txt, and no tokenizer_class says how they are used")
                    : "vocab.json and merges.txt of a " + std::string(tokenizer_class) + ", which is not known",
                tokenizer_class.empty() ? "add the model's tokenizer.json, or say it in tokenizer_config.json: "
                                          "{\"tokenizer_class\": \"GPT2Tokenizer\"}, or Qwen2Tokenizer"
                                        : "add the model's tokenizer.json, or pass token ids");
  Vocabulary vocabulary;
  vocabulary.rules = TokenizerRules::tokenizers;
  vocabulary.model = "bpe";
  const std::string path = (folder / "vocab.json").string();
  const std::string text = read_text_file(path, JsonLimits{}.max_bytes);
  const Json json = parse_json(path, text);
  read_piece_ids(JsonNode(path, text, json), vocabulary);
  if (vocabulary.pieces.empty()) JsonNode(path, text, json).fail("has no pieces");
  TokenizerPipeline& pipeline = vocabulary.pipeline.emplace();
  const PieceIds ids = ids_of_pieces(vocabulary);
  BpeModel model = read_merges(folder / "merges.txt", ids);
  refuse_cut_merges((folder / "merges.txt").string(), model, vocabulary, ids);
  pipeline.model = std::move(model);
  pipeline.decoders.emplace_back(decoders::ByteLevel{});
  pipeline.has_decoder = true;
  const bool qwen = name == "Qwen2Tokenizer";
  if (qwen) {
    pipeline.normalizers.emplace_back(normalizers::UnicodeForm{true, false});
    auto& split = std::get<pre::Split>(pipeline.pre_tokenizers.emplace_back(std::in_place_type<pre::Split>));
    split.pattern = {std::string(kQwen2Words), true};
  }
  pipeline.pre_tokenizers.emplace_back(pre::ByteLevel{add_prefix_space, !qwen});
  return vocabulary;
}

}  // namespace ropewalk::formats
