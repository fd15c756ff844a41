#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace ropewalk::formats {

// What trainers leave in an adapter's folder about how it was trained:
//   training_args.bin   transformers' Trainer (5.23.0 and before): its arguments, pickled; of TRL with max_length
//                       (max_seq_length before 0.20), of others with model_max_length
//   training_args.yaml  LLaMA-Factory's web interface: cutoff_len, rope_scaling
//   training_args.json, args.json   the same as JSON; ms-swift's: max_length, rope_scaling
//   README.md           axolotl (0.7 to 0.11): its YAML in the card, sequence_len, rope_scaling

/// One of those files that says how long the texts were, or which rope was scaled.
struct TrainingFile {
  std::string name;                                       // "training_args.bin"
  std::string field;                                      // that says `tokens`
  std::optional<std::int64_t> tokens = std::nullopt;      // of the longest text
  std::optional<std::string> rope_method = std::nullopt;  // "linear", as rope_scaling names it
  std::string problem = {};                               // why it was not read; then nothing else is said
};
/// In order of name. Nothing in them is run (torch/saved_object.h).
std::vector<TrainingFile> training_files(const std::filesystem::path& folder);

}  // namespace ropewalk::formats
