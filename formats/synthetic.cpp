#include "formats/synthetic.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <cstring>
#include <map>
#include <memory>

#include "formats/tensor_inventory.h"
#include "lib/convert.h"
#include "lib/error.h"
#include "lib/file.h"

namespace ropewalk::formats {
namespace {

constexpr std::string_view kPrefix = "synthetic:";
constexpr std::uint64_t kPoolElements = 4194301;  // prime: rows of no width fall onto themselves soon
constexpr std::uint64_t kMaxConfigBytes = std::uint64_t{16} << 20;
constexpr int kDistinctLayers = 4;

/// splitmix64: one well mixed number for each state.
std::uint64_t mixed(std::uint64_t state) {
  state += 0x9e3779b97f4a7c15;
  state = (state ^ (state >> 30)) * 0xbf58476d1ce4e5b9;
  state = (state ^ (state >> 27)) * 0x94d049bb133111eb;
  return state ^ (state >> 31);
}

using Pool = std::vector<std::byte>;

/// Sums of 12 uniform numbers: normal enough, and no library's logarithm in it, so the same bytes everywhere.
std::shared_ptr<const Pool> make_pool(DType dtype, double deviation, std::uint64_t seed) {
  std::vector<float> values(kPoolElements);
  for (std::uint64_t i = 0; i < kPoolElements; ++i) {
    double sum = -6;
    for (std::uint64_t part = 0; part < 3; ++part) {
      const std::uint64_t bits = mixed(seed + 3 * i + part);
      for (int shift = 0; shift < 64; shift += 16) sum += (double(bits >> shift & 0xffff) + 0.5) / 65536;
    }
    values[i] = float(sum * deviation);
  }
  auto pool = std::make_shared<Pool>(*byte_size(dtype, kPoolElements));
  encode_f32(dtype, values, *pool);
  return pool;
}

class SyntheticTensor final : public LazyTensor {
 public:
  SyntheticTensor(TensorInfo info, std::shared_ptr<const Pool> pool, std::uint64_t first)
      : LazyTensor(std::move(info)), pool_(std::move(pool)), first_(first) {}

  bool has_raw() const noexcept override { return true; }
  void read_raw(RowRange range, std::span<std::byte> bytes) const override {
    assert(range.end <= info().rows() && bytes.size() == range.size() * info().row_bytes());
    const std::uint64_t size = pool_->size(), element = size / kPoolElements;
    std::uint64_t at =
        (first_ + range.begin % kPoolElements * (info().columns() % kPoolElements)) % kPoolElements * element;
    while (!bytes.empty()) {
      const std::uint64_t count = std::min<std::uint64_t>(bytes.size(), size - at);
      std::memcpy(bytes.data(), pool_->data() + at, count);
      bytes = bytes.subspan(count);
      at = 0;
    }
  }
  void read_f32(RowRange range, std::span<float> values) const override {
    std::vector<std::byte> bytes(range.size() * info().row_bytes());
    read_raw(range, bytes);
    decode_f32(dtype(), bytes, values);
  }

 private:
  std::shared_ptr<const Pool> pool_;
  std::uint64_t first_;  // element of the pool the tensor starts at
};

/// One value throughout.
class ConstantTensor final : public LazyTensor {
 public:
  ConstantTensor(TensorInfo info, float value) : LazyTensor(std::move(info)), value_(value) {}
  void read_f32(RowRange, std::span<float> values) const override { std::ranges::fill(values, value_); }

 private:
  float value_;
};

/// A layer's number in a name, modulo those that differ: "model.layers.5.mlp" and "model.layers.1.mlp" are the same
/// words.
std::string name_of_layer_kind(const std::string& name) {
  constexpr std::string_view kLayers = "model.layers.";
  if (!name.starts_with(kLayers)) return name;
  const std::size_t end = name.find('.', kLayers.size());
  return std::string(kLayers) +
         std::to_string(std::stoi(name.substr(kLayers.size(), end - kLayers.size())) % kDistinctLayers) +
         name.substr(end);
}

std::uint64_t hash(std::string_view text) {
  std::uint64_t state = 0;
  for (const char c : text) state = mixed(state ^ static_cast<unsigned char>(c));
  return state;
}

}  // namespace

std::optional<std::filesystem::path> synthetic_config(std::string_view model) {
  if (!model.starts_with(kPrefix) || is_there(std::filesystem::path(model))) return std::nullopt;
  return std::filesystem::path(model.substr(kPrefix.size()));
}

HfFiles read_synthetic_config(const std::filesystem::path& path) {
  if (path.empty())
    throw Error(ErrorKind::usage, {}, "'synthetic:' without a configuration", "write synthetic:CONFIG.json");
  const std::filesystem::path config = is_folder(path) ? path / "config.json" : path;
  HfFiles out;
  out.config_path = config.string();
  out.hf.folder = config.parent_path().empty() ? std::filesystem::path(".") : config.parent_path();
  out.hf.config_text = read_text_file(config, kMaxConfigBytes);
  out.hf.config = parse_json(out.config_path, out.hf.config_text);
  return out;
}

DType synthetic_dtype(const Json& config, const std::string& config_path) {
  for (const char* key : {"dtype", "torch_dtype"}) {
    if (!config.is_object() || !config.contains(key) || config[key].is_null()) continue;
    const auto dtype = config[key].is_string() ? dtype_from_name(config[key].get<std::string>()) : std::nullopt;
    if (!dtype || (*dtype != DType::f32 && *dtype != DType::f16 && *dtype != DType::bf16))
      throw Error(
          ErrorKind::unsupported, {.path = config_path},
          std::string(key) + " is " + config[key].dump() + ", synthetic weights are float32, float16 or bfloat16",
          "set one of these");
    return *dtype;
  }
  return DType::bf16;
}

std::vector<TensorPtr> synthetic_tensors(const ModelConfig& config, DType dtype) {
  if (dtype != DType::f32 && dtype != DType::f16 && dtype != DType::bf16)
    throw Error(ErrorKind::unsupported, {}, "synthetic weights of " + std::string(info(dtype).name),
                "use f32, f16 or bf16");
  std::map<double, std::shared_ptr<const Pool>> pools;
  std::vector<TensorPtr> out;
  for (const ExpectedTensor& tensor : expected_tensors(config)) {
    TensorInfo described{tensor.name, tensor.shape, tensor.shape.size() == 2 ? dtype : DType::f32, tensor.pairs};
    if (tensor.shape.size() != 2) {
      out.push_back(
          std::make_shared<ConstantTensor>(std::move(described), tensor.name.ends_with("norm.weight") ? 1.0f : 0.0f));
      continue;
    }
    const double deviation =
        tensor.name == "model.embed_tokens.weight" && !config.tied_head ? 1 : 1 / std::sqrt(double(tensor.shape[1]));
    auto& pool = pools[deviation];
    if (!pool) pool = make_pool(dtype, deviation, hash("pool " + std::to_string(pools.size())));
    out.push_back(std::make_shared<SyntheticTensor>(std::move(described), pool,
                                                    hash(name_of_layer_kind(tensor.name)) % kPoolElements));
  }
  return out;
}

}  // namespace ropewalk::formats
