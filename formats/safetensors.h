#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "lib/executor.h"
#include "lib/file.h"
#include "lib/lazy_tensor.h"

namespace ropewalk::formats {

// safetensors 0.8, in file order:
//   u64 little-endian  N, bytes of header (at most 100 MB)
//   N bytes            JSON object {"__metadata__": {string: string}?, NAME: {"dtype", "shape", "data_offsets": [begin,
//     end]}...}, starts with '{',
//                      may be padded with spaces
//   the rest           data; offsets are relative to here, cover it without gap or overlap

struct SafetensorsFile {
  std::shared_ptr<const File> file;
  std::map<std::string, std::string> metadata;
  std::vector<TensorPtr> tensors;  // in order of data offset
};

/// Reads and checks the whole header: sizes, dtypes, shapes that overflow, offsets out of range, overlaps, gaps,
/// duplicate keys, depth, more than kMaxTensorsPerFile.
/// Every failure is Error(bad_input) naming file, byte and tensor. An unknown dtype is Error(unsupported).
SafetensorsFile read_safetensors(const std::filesystem::path& path);

/// One shard's layout, known before any data is produced.
struct SafetensorsLayout {
  std::string header;                                       // the 8 size bytes and the padded JSON
  std::vector<std::pair<TensorPtr, std::uint64_t>> places;  // tensor, absolute offset in the file
  std::uint64_t file_bytes = 0;
};
/// Byte for byte as the safetensors library 0.8 serialises: tensors by dtype (the library's own order: wide before
/// narrow) and name, metadata first (left out if empty; several keys sorted, where the library's order is random),
/// header padded with spaces to 8 bytes. Error(unsupported) for a block type.
SafetensorsLayout plan_safetensors(std::vector<TensorPtr> tensors, const std::map<std::string, std::string>& metadata);

/// Distributes tensors over shards in order as huggingface_hub 2.4's split_torch_state_dict_into_shards does: a shard
/// closes when the next tensor would pass max_shard_bytes; a tensor larger than that gets a shard of its own. One
/// shard: "model.safetensors"; else "model-00001-of-0000N.safetensors" and the index as transformers 5.23.0's
/// save_pretrained writes it.
struct ShardPlan {
  std::vector<std::pair<std::string, std::vector<TensorPtr>>> shards;  // file name, tensors
  std::uint64_t total_bytes = 0;
  std::string index_json;  // text of model.safetensors.index.json; empty for one shard
};
ShardPlan plan_shards(const std::vector<TensorPtr>& tensors, std::uint64_t max_shard_bytes,
                      const std::string& stem = "model");

}  // namespace ropewalk::formats
