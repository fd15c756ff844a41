#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "formats/source.h"

namespace ropewalk::formats {

/// A folder as found, with its tensors, nothing checked against the configuration yet.
struct HfFiles {
  HfFolder hf;
  std::string config_path;
  std::vector<TensorPtr> tensors;  // shards in order of name, each in order of offset
};
/// `path`: a folder (model.safetensors, else model.safetensors.index.json, else pytorch_model.bin, else its index, as
/// transformers 5.23.0 chooses), an index, or one .safetensors or .bin with config.json beside it;
/// a shard that an index beside it lists stands for the whole. Error(bad_input) if a shard is missing or leaves the
/// folder, if the index and its shards disagree about any tensor. torch pickles are read as data (torch/torch_file.h).
HfFiles read_hf_files(const std::filesystem::path& path);

/// The index by which read_hf_files(path) finds its shards; nullopt if it reads one file that no index lists.
std::optional<std::filesystem::path> weight_index(const std::filesystem::path& path);

/// True if the folder holds weights that read_hf_files reads.
bool has_hf_weights(const std::filesystem::path& folder);
/// A folder with adapter_config.json that holds no model of its own (an adapter's folder may carry a copy of the base's
/// config.json).
bool is_adapter_alone(const std::filesystem::path& path);

/// tokenizer.model, tokenizer.json, chat_template.jinja, ...: what moves when a checkpoint takes another tokenizer.
bool is_tokenizer_file(std::string_view name);
/// tokenizer.model or tokenizer.json is there.
bool has_tokenizer(const std::filesystem::path& folder);
/// Names of the regular files of a folder, sorted; hidden files, subfolders, weights of any kind, config.json and
/// adapter files are left out. Of additional_chat_templates/ its templates, with its name before theirs.
std::vector<std::string> list_carried_files(const std::filesystem::path& folder);

}  // namespace ropewalk::formats
