#include "formats/hf_folder.h"

#include <algorithm>
#include <array>
#include <map>
#include <set>

#include "formats/json_fields.h"
#include "formats/safetensors.h"
#include "formats/tokenizers/tiktoken.h"
#include "formats/torch/torch_file.h"
#include "lib/error.h"
#include "lib/file.h"

namespace ropewalk::formats {
namespace {

namespace fs = std::filesystem;

// the largest, with a name for each of 100,000 labels, have 5 MB
constexpr std::uint64_t kMaxConfigBytes = std::uint64_t{16} << 20;
constexpr const char* kConfig = "config.json";
constexpr const char* kSingle = "model.safetensors";
constexpr const char* kIndex = "model.safetensors.index.json";
constexpr const char* kTorch = "pytorch_model.bin";
constexpr const char* kTorchIndex = "pytorch_model.bin.index.json";

constexpr std::array kTokenizerFiles = {"tokenizer.model",
                                        "spiece.model",
                                        "tokenizer.json",
                                        "tokenizer_config.json",
                                        "special_tokens_map.json",
                                        "added_tokens.json",
                                        "chat_template.jinja",
                                        "chat_template.json",
                                        "vocab.json",
                                        "merges.txt"};
constexpr const char* kMoreTemplates = "additional_chat_templates";  // a subfolder
/// Weights, archives and training state: large, and wrong beside other weights.
constexpr std::array kNeverCarried = {".safetensors", ".bin", ".pt",      ".pth",  ".gguf",      ".ckpt", ".index.json",
                                      ".onnx",        ".h5",  ".msgpack", ".npz",  ".ot",        ".pkl",  ".zip",
                                      ".tar",         ".gz",  ".zst",     ".lock", ".incomplete"};

/// The Hub cache holds links; a blob that was deleted leaves one that leads nowhere.
bool is_link(const fs::path& path) {
  std::error_code ignored;
  return fs::is_symlink(path, ignored);
}

void refuse_dead_link(const fs::path& path, const char* of_what) {
  if (is_link(path))
    throw Error(ErrorKind::bad_input, {.path = path.string()},
                std::string("is a link to nothing, expected the model's ") + of_what,
                "what it led to was moved or deleted: fetch the model again");
}

/// weight_map: tensor to file, checked to stay in the folder.
std::map<std::string, std::string> read_index(const fs::path& path) {
  const std::string place = path.string();
  const std::string text = read_text_file(path, JsonLimits{}.max_bytes);
  const Json index = parse_json(place, text);
  const auto fail = [&](const std::string& pointer, const std::string& problem, const std::string& fix) {
    throw Error(ErrorKind::bad_input, json_place(place, text, pointer), problem, fix);
  };
  if (!index.is_object() || !index.contains("weight_map") || !index["weight_map"].is_object())
    fail("/weight_map", "no object 'weight_map', expected {tensor: file}",
         "this is not the index of a safetensors checkpoint, or it is damaged: fetch it again");
  std::map<std::string, std::string> map;
  for (const auto& [name, file] : index["weight_map"].items()) {
    const std::string pointer = "/weight_map/" + pointer_segment(name);
    const std::string found = "'" + name + "' is mapped to " + shown(file);
    if (!file.is_string()) fail(pointer, found + ", expected a file name", "fetch the index again");
    const std::string& shard = file.get_ref<const std::string&>();
    if (shard.empty() || shard.find('/') != std::string::npos || shard.find('\\') != std::string::npos ||
        shard == "." || shard == ".." || shard.find('\0') != std::string::npos)
      fail(pointer, found + ", expected the plain name of a file beside the index",
           "do not trust this checkpoint; fetch the index again");
    map.emplace(name, shard);
  }
  if (map.empty()) fail("/weight_map", "'weight_map' is empty, expected at least one tensor", "fetch the index again");
  return map;
}

bool is_torch(const fs::path& path) {
  return path.extension() == ".bin" || path.extension() == ".pt" || path.extension() == ".pth";
}

std::vector<TensorPtr> read_tensors(const fs::path& path) {
  return is_torch(path) ? read_torch_file(path).tensors : read_safetensors(path).tensors;
}

void read_shards(const fs::path& index_path, HfFiles& out) {
  const std::map<std::string, std::string> map = read_index(index_path);
  std::set<std::string> shards;
  for (const auto& [name, shard] : map) shards.insert(shard);
  for (const std::string& shard : shards)  // all before the first is read: a missing file is the better news
    if (!is_there(out.hf.folder / shard))
      throw Error(ErrorKind::bad_input, {.path = index_path.string()},
                  "the index names '" + shard + "', which is " +
                      (is_link(out.hf.folder / shard) ? "a link to nothing" : "not in the folder"),
                  "the checkpoint is incomplete: fetch that file");
  std::set<std::string> found;
  for (const std::string& shard : shards) {
    const fs::path path = out.hf.folder / shard;
    for (const TensorPtr& tensor : read_tensors(path)) {
      const auto entry = map.find(tensor->name());
      if (entry == map.end())
        throw Error(ErrorKind::bad_input, {.path = path.string()},
                    "tensor '" + tensor->name() + "' is in the shard but not in " + index_path.filename().string() +
                        ", expected every tensor to be listed",
                    "shards and index belong to different checkpoints: fetch them again");
      if (entry->second != shard)
        throw Error(ErrorKind::bad_input, {.path = path.string()},
                    "tensor '" + tensor->name() + "' is here, but the index says it is in '" + entry->second + "'",
                    "shards and index belong to different checkpoints: fetch them again");
      found.insert(tensor->name());
      out.tensors.push_back(tensor);
    }
    out.hf.weight_files.push_back(path);
  }
  for (const auto& [name, shard] : map)
    if (!found.contains(name))
      throw Error(ErrorKind::bad_input, {.path = (out.hf.folder / shard).string()},
                  "tensor '" + name + "' is not in the shard the index names for it",
                  "shards and index belong to different checkpoints: fetch them again");
}

void read_single(const fs::path& path, HfFiles& out) {
  out.tensors = read_tensors(path);
  out.hf.weight_files = {path};
}

void read_folder_file(const fs::path& folder, HfFiles& out) {
  if (is_there(folder / kSingle)) return read_single(folder / kSingle, out);
  if (is_there(folder / kTorch)) return read_single(folder / kTorch, out);
  for (const char* name : {kSingle, kIndex, kTorch, kTorchIndex}) refuse_dead_link(folder / name, "weights");
  throw Error(ErrorKind::bad_input, {.path = folder.string()},
              std::string("no weights here, expected ") + kSingle + " or " + kIndex,
              "name the folder of a complete checkpoint");
}

/// The index beside a shard that lists it, if any.
std::optional<fs::path> index_listing(const fs::path& shard) {
  const fs::path index = shard.parent_path() / (is_torch(shard) ? kTorchIndex : kIndex);
  if (!is_there(index)) return std::nullopt;
  const auto map = read_index(index);
  const std::string name = shard.filename().string();
  const bool listed = std::any_of(map.begin(), map.end(), [&](const auto& entry) { return entry.second == name; });
  return listed ? std::optional(index) : std::nullopt;
}

/// `holds_weights`: whether the folder has any, for the message.
void read_config(HfFiles& out, bool holds_weights) {
  const fs::path path = out.hf.folder / kConfig;
  out.config_path = path.string();
  if (!is_there(path)) {
    refuse_dead_link(path, "configuration");
    throw holds_weights ? Error(ErrorKind::bad_input, {.path = out.hf.folder.string()},
                                "no config.json beside the weights, expected the model's configuration",
                                "fetch it from the model's repository")
                        : Error(ErrorKind::bad_input, {.path = out.hf.folder.string()},
                                "no config.json and no weights here, expected a model's folder", "check the path");
  }
  out.hf.config_text = read_text_file(path, kMaxConfigBytes);
  out.hf.config = parse_json(out.config_path, out.hf.config_text);
  if (is_there(out.hf.folder / "generation_config.json"))
    out.hf.generation_config = read_json(out.hf.folder / "generation_config.json");
}

}  // namespace

HfFiles read_hf_files(const fs::path& path) {
  HfFiles out;
  const bool folder = is_folder(path);
  out.hf.folder = folder ? path : path.has_parent_path() ? path.parent_path() : fs::path(".");
  const std::string name = path.filename().string();
  if (!folder && name.starts_with("adapter_model"))
    throw Error(ErrorKind::bad_input, {.path = path.string()}, "these are the weights of an adapter, expected a model",
                "name the adapter's folder");
  read_config(out, !folder || is_there(path / kSingle) || is_there(path / kIndex) || is_there(path / kTorch) ||
                       is_there(path / kTorchIndex));
  if (const auto index = weight_index(path)) {
    read_shards(*index, out);
  } else if (folder) {
    read_folder_file(path, out);
  } else {
    read_single(path, out);
  }
  out.hf.carried_files = list_carried_files(out.hf.folder);
  return out;
}

std::optional<fs::path> weight_index(const fs::path& path) {
  if (is_folder(path)) {
    if (is_there(path / kSingle)) return std::nullopt;
    if (is_there(path / kIndex)) return path / kIndex;
    return !is_there(path / kTorch) && is_there(path / kTorchIndex) ? std::optional(path / kTorchIndex) : std::nullopt;
  }
  return path.filename().string().ends_with(".index.json") ? std::optional(path) : index_listing(path);
}

bool is_adapter_alone(const fs::path& path) {
  if (!is_folder(path)) return false;
  require_readable_folder(path);
  return is_peft_adapter(path) && !has_hf_weights(path);
}

bool has_hf_weights(const fs::path& folder) {
  if (is_there(folder / kSingle) || is_there(folder / kIndex)) return true;
  // trainers leave a .bin beside an adapter that is no model
  return is_there(folder / kConfig) && (is_there(folder / kTorch) || is_there(folder / kTorchIndex));
}

bool is_tokenizer_file(std::string_view name) {
  return std::find(kTokenizerFiles.begin(), kTokenizerFiles.end(), name) != kTokenizerFiles.end() ||
         name.starts_with(std::string(kMoreTemplates) + "/");
}

bool has_tokenizer(const fs::path& folder) {
  return is_there(folder / "tokenizer.model") || is_there(folder / "spiece.model") ||
         is_there(folder / "tokenizer.json") || (is_there(folder / "vocab.json") && is_there(folder / "merges.txt")) ||
         find_tiktoken(folder);
}

std::vector<std::string> list_carried_files(const fs::path& folder) {
  std::vector<std::string> names;
  try {
    for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
      const std::string name = entry.path().filename().string();
      std::error_code ignored;
      const auto ends = [&](const char* suffix) { return name.ends_with(suffix); };
      if (name.empty() || name.front() == '.' || name == kConfig || name.starts_with("adapter_")) continue;
      if (std::any_of(kNeverCarried.begin(), kNeverCarried.end(), ends) || !entry.is_regular_file(ignored)) continue;
      names.push_back(name);
    }
    if (const fs::path templates = folder / kMoreTemplates; fs::is_directory(templates))
      for (const fs::directory_entry& entry : fs::directory_iterator(templates))
        if (entry.path().extension() == ".jinja" && entry.is_regular_file())
          names.push_back(std::string(kMoreTemplates) + "/" + entry.path().filename().string());
  } catch (const fs::filesystem_error& error) {
    throw_system_error(folder.string(), "list the folder", error.code().value());
  }
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace ropewalk::formats
