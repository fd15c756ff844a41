#include "formats/tokenizers/vocab_merges.h"

#include <algorithm>

#include "formats/tokenizers/bpe_merges.h"
#include "lib/file.h"

namespace ropewalk::formats {
namespace {

namespace pre = pre_tokenizers;

constexpr std::uint64_t kMaxMergesBytes = std::uint64_t{64} << 20;
constexpr std::string_view kQwenWords =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

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
                "add the model's tokenizer.json, or pass token ids");
  Vocabulary vocabulary;
  vocabulary.rules = TokenizerRules::tokenizers;
  vocabulary.model = "bpe";
  const std::string path = (folder / "vocab.json").string();
  const std::string text = read_text_file(path, JsonLimits{}.max_bytes);
  const Json json = parse_json(path, text);
  read_piece_ids(JsonNode(path, text, json), vocabulary);
  if (vocabulary.pieces.empty()) JsonNode(path, text, json).fail("has no pieces");
  TokenizerPipeline& pipeline = vocabulary.pipeline.emplace();
  pipeline.model = read_merges(folder / "merges.txt", ids_of_pieces(vocabulary));
  pipeline.decoders.emplace_back(decoders::ByteLevel{});
  pipeline.has_decoder = true;
  const bool qwen = name == "Qwen2Tokenizer";
  if (qwen) {
    pipeline.normalizers.emplace_back(normalizers::UnicodeForm{true, false});
    auto& split = std::get<pre::Split>(pipeline.pre_tokenizers.emplace_back(std::in_place_type<pre::Split>));
    split.pattern = {std::string(kQwenWords), true};
  }
  pipeline.pre_tokenizers.emplace_back(pre::ByteLevel{add_prefix_space, !qwen});
  return vocabulary;
}

}  // namespace ropewalk::formats
