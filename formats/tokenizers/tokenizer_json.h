#pragma once

#include <filesystem>

#include "formats/tokenizers/json_node.h"
#include "lib/tokenizer_pipeline.h"
#include "lib/vocabulary.h"

namespace ropewalk::formats {

/// tokenizer.json of the tokenizers library, 0.23.3:
///
///   version        "1.0"
///   truncation, padding                not applied, as by transformers unless asked
///   added_tokens   [{id, content, single_word, lstrip, rstrip, normalized, special}]
///   normalizer, pre_tokenizer, post_processor, decoder   null or {type, ...}, Sequence of such
///   model          {type: BPE | WordPiece | WordLevel | Unigram, vocab, merges, ...}
///
/// Fills pieces, added, pipeline and model of the vocabulary. Ids of added tokens are the library's: of the piece with
/// that text, else counted up from the number of pieces, whatever the file says.
/// Error(bad_input) with line and column for what the library refuses and for ids or texts that stand twice;
/// Error(unsupported) for kinds of steps not known here, scripts as boundaries and dropout.
Vocabulary read_tokenizer_json(const std::filesystem::path& path);
/// The same from memory; `path` is for messages.
Vocabulary parse_tokenizer_json(const std::string& path, std::string_view text);

struct AroundText {
  std::vector<std::int32_t> before, after;
};
/// What the post-processor of such a file puts around one text; nothing else of it is looked at.
/// Error(bad_input) for an id from `ids_end` on.
AroundText read_around_text(const std::filesystem::path& path, std::int64_t ids_end);

/// The steps, by the file's field.
std::vector<normalizers::Step> read_normalizers(const JsonNode& node);
std::vector<pre_tokenizers::Step> read_pre_tokenizers(const JsonNode& node);
std::vector<decoders::Step> read_decoders(const JsonNode& node);
/// What stands around one text goes to `before` and `after`.
void read_post_processor(const JsonNode& node, TokenizerPipeline& pipeline);

}  // namespace ropewalk::formats
