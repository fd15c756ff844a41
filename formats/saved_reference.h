#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "lib/model_config.h"
#include "lib/pending_file.h"
#include "lib/vocabulary.h"

// What one model thinks of one text, so that another can be held against it where the first one's weights are not:
//
//   8 bytes   "RWREF\r\n\x1a"
//   u32       version: 2
//   u32       0
//   64 bytes  sha256 of what the frame holds, lower-case hexadecimal: against damage and slips, not against an author
//   rest      one zstd frame with a checksum, which holds, everything little-endian:
//
//   text      label, as the user wrote the source; read_as, whose rules
//   text      corpus_path; corpus_sha256; u64 corpus_tokens; text ids_sha256
//   u8        unmerged
//   u32       context; original_context (0: not known)
//   u32       n_layers, d_model, n_heads, n_kv_heads, head_dim, n_vocab, served context, sliding window (0: none)
//   f64       rms_eps
//   u8        tied_head
//   text      rope in words
//   f64       attention factor; u64 n, f64 inv_freq[n]: the rope at `context` tokens
//   u64 n     tensors: text name; u64 n, u64 shape[n]
//   u8        vocabulary follows (0 or 1): the source's own view; then u8 and the view as it stands in a GGUF. A view:
//             text model; u8 rules;
//             u64 n, of pieces: text, f32 score, u8 type
//             u64 n, of added tokens: u32 id, text content
//             u8 has BPE: text pre; u64 n, of merges: text left, text right
//             4 x (u8 present, u32 id): bos, eos, unk, pad; 2 x u8: add_bos, add_eos (0 no, 1 yes, 2 not said)
//             u64 n, of chat templates: text name, text
//   u64 n     windows: u64 n, u32 ids[n]
//   u32       top
//   planes    f64 log_sum_exp[rows], f32 next[rows], u32 top_ids[rows x top], f32 top_logits[rows x top]
//   u32       sketch_every, sketch_width
//   planes    f32 sketches[n_layers x sketched rows x (1 + sketch_width)]
//
// text: u32 length, bytes. rows: all windows' positions, one window after another. planes: all first bytes of the values,
// then all second bytes, ...: neighbours of one plane resemble each other, which is what compresses.
namespace ropewalk::formats {

struct SavedTensor {
  std::string name;
  std::vector<std::uint64_t> shape;
};

struct SavedReference {
  std::string label, read_as;
  std::string corpus_path, corpus_sha256, ids_sha256;  // ids: of all documents, as the source's tokenizer gives them
  std::uint64_t corpus_tokens = 0;
  bool unmerged = false;  // the source's adapters
  int context = 0;        // of the windows
  int original_context = 0;
  ModelConfig config;  // what the layout above has of it; its rope is `rope`
  std::string rope_words;
  RopeTable rope;
  std::vector<SavedTensor> tensors;
  // What comparisons look at: without pipeline and normalizer.
  std::optional<Vocabulary> vocabulary, gguf_vocabulary;
  std::vector<std::vector<std::int32_t>> windows;

  int top = 0;                        // likeliest tokens kept of each row, at most n_vocab
  std::vector<double> log_sum_exp;    // [rows], of the row's logits
  std::vector<float> next;            // [rows] logit of the token that came; 0 for a window's last row
  std::vector<std::int32_t> top_ids;  // [rows, top], likeliest first, smaller id first of equals
  std::vector<float> top_logits;      // [rows, top], in f32 as they were computed: log p = logit - log_sum_exp
  int sketch_every = 1;               // of a window's rows those at sketch_every / 2, + sketch_every, ...
  int sketch_width = 0;               // 0: none
  std::vector<float> sketches;        // [n_layers, sketched rows, 1 + width]: 2-norm of the hidden state, projections

  std::size_t rows() const;
  std::size_t sketched_rows() const;
};

/// Positions of a window of `size` tokens that are sketched: every / 2, every / 2 + every, ...
std::size_t sketched_positions(std::size_t size, int every);

/// The whole file. `sync` and `overwrite` as for any output.
void write_reference(const std::filesystem::path& path, const SavedReference& reference, const WriteOptions& options);
/// Error(bad_input) naming the place (bytes of the decompressed contents) for anything that the layout does not allow:
/// counts past the end, ids outside the vocabulary, logits that are not finite or not sorted, probabilities that are not
/// one distribution's (above 1 together, below it even if every token not kept is as likely as the last one kept; of the
/// token that came none, or another than its logit among those kept has), bytes left over; and for contents that do not
/// have the sha256 that the file says.
/// Error(unsupported) for another version.
SavedReference read_reference(const std::filesystem::path& path);

/// The contents once decompressed, for tests and fuzzing.
std::vector<std::byte> reference_bytes(const SavedReference& reference);
SavedReference parse_reference(std::span<const std::byte> contents, const std::string& path);

}  // namespace ropewalk::formats
