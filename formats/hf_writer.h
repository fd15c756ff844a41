#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "formats/source.h"
#include "lib/executor.h"
#include "lib/pending_file.h"

namespace ropewalk::formats {

struct HfWriteOptions {
  WriteOptions write;
  StreamOptions stream;
  std::uint64_t max_shard_bytes = 5'000'000'000;  // transformers' default, decimal
  std::string card;                                // README.md to write; empty: the source's is carried
};
struct HfWritten {
  std::vector<std::string> files;  // names in the folder, sorted
  std::uint64_t bytes = 0;
};
/// Writes source.checkpoint as an HF folder: config.json (dtype updated, rope as source.hf->config says), shards, index, tokenizer and other files carried over and listed.
/// The folder appears whole or not at all.
HfWritten write_hf_folder(const Source& source, const Json& config, const std::filesystem::path& target, const HfWriteOptions& options);

}  // namespace ropewalk::formats
