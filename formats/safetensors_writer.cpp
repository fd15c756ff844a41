#include <algorithm>
#include <array>
#include <cassert>
#include <cstdio>

#include "formats/json.h"
#include "formats/safetensors.h"
#include "lib/error.h"

namespace ropewalk::formats {
namespace {

constexpr std::uint64_t kHeaderAlignment = 8;

/// The library sorts by its enumeration of dtypes, last first; this is safetensors 0.8's for the dtypes we hold.
constexpr std::array kFileOrder = {DType::u64,     DType::i64,     DType::f64, DType::f32, DType::u32,
                                   DType::i32,     DType::bf16,    DType::f16, DType::u16, DType::i16,
                                   DType::f8_e4m3, DType::f8_e5m2, DType::i8,  DType::u8,  DType::boolean};

std::ptrdiff_t place_of(DType dtype) {
  return std::find(kFileOrder.begin(), kFileOrder.end(), dtype) - kFileOrder.begin();
}

std::string shard_name(const std::string& stem, std::size_t shard, std::size_t n_shards) {
  if (n_shards == 1) return stem + ".safetensors";
  std::array<char, 48> suffix;
  std::snprintf(suffix.data(), suffix.size(), "-%05zu-of-%05zu.safetensors", shard + 1, n_shards);
  return stem + suffix.data();
}

}  // namespace

SafetensorsLayout plan_safetensors(std::vector<TensorPtr> tensors, const std::map<std::string, std::string>& metadata) {
  for (const TensorPtr& tensor : tensors)
    if (info(tensor->dtype()).safetensors.empty())
      throw Error(
          ErrorKind::unsupported, {.path = std::string(tensor->file())},
          "'" + tensor->name() + "' is " + std::string(info(tensor->dtype()).name) + ", which safetensors cannot hold",
          "choose f32, f16 or bf16 for it");
  std::sort(tensors.begin(), tensors.end(), [](const TensorPtr& a, const TensorPtr& b) {
    const auto place_a = place_of(a->dtype()), place_b = place_of(b->dtype());
    return place_a != place_b ? place_a < place_b : a->name() < b->name();
  });

  Json header = Json::object();
  auto& members = header.get_ref<Json::object_t&>();  // appended directly: Json's own insertion looks the key up first
  if (!metadata.empty()) members.emplace_back("__metadata__", metadata);
  SafetensorsLayout layout;
  std::uint64_t offset = 0;
  for (TensorPtr& tensor : tensors) {
    Json entry = Json::object();
    entry["dtype"] = info(tensor->dtype()).safetensors;
    entry["shape"] = tensor->info().shape;
    const std::uint64_t end = offset + tensor->info().bytes();
    entry["data_offsets"] = {offset, end};
    members.emplace_back(tensor->name(), std::move(entry));
    layout.places.emplace_back(std::move(tensor), offset);
    offset = end;
  }
  std::string text = header.dump();
  text.resize((text.size() + kHeaderAlignment - 1) / kHeaderAlignment * kHeaderAlignment, ' ');
  for (std::uint64_t rest = text.size(), byte = 0; byte < 8; ++byte, rest >>= 8)
    layout.header += static_cast<char>(rest & 0xff);
  layout.header += text;
  for (auto& [tensor, place] : layout.places) place += layout.header.size();
  layout.file_bytes = layout.header.size() + offset;
  return layout;
}

ShardPlan plan_shards(const std::vector<TensorPtr>& tensors, std::uint64_t max_shard_bytes, const std::string& stem) {
  ShardPlan plan;
  std::vector<std::vector<TensorPtr>> shards;
  std::vector<TensorPtr> open;
  std::uint64_t open_bytes = 0, parameters = 0;
  for (const TensorPtr& tensor : tensors) {
    const std::uint64_t bytes = tensor->info().bytes();
    plan.total_bytes += bytes;
    parameters += tensor->info().elements();
    if (bytes >
        max_shard_bytes) {  // alone, and before the shard that is still open: that is how the library numbers them
      shards.push_back({tensor});
      continue;
    }
    if (open_bytes + bytes > max_shard_bytes) {
      shards.push_back(std::move(open));
      open.clear();
      open_bytes = 0;
    }
    open.push_back(tensor);
    open_bytes += bytes;
  }
  if (!open.empty() || shards.empty()) shards.push_back(std::move(open));

  std::map<std::string, std::string> weight_map;  // the library sorts the keys
  for (std::size_t shard = 0; shard < shards.size(); ++shard) {
    const std::string name = shard_name(stem, shard, shards.size());
    for (const TensorPtr& tensor : shards[shard]) weight_map[tensor->name()] = name;
    plan.shards.emplace_back(name, std::move(shards[shard]));
  }
  if (plan.shards.size() > 1) {
    Json index = Json::object();
    index["metadata"] = {{"total_parameters", parameters}, {"total_size", plan.total_bytes}};
    Json& map = index["weight_map"] = Json::object();
    for (const auto& [name, file] : weight_map) map.get_ref<Json::object_t&>().emplace_back(name, file);
    plan.index_json = index.dump(2, ' ', true) + "\n";
  }
  return plan;
}

}  // namespace ropewalk::formats
