#include <algorithm>
#include <array>
#include <bit>
#include <cmath>

#include "formats/quantized/methods.h"
#include "lib/quantized/four_bit.h"
#include "lib/quantized/rounding.h"

// A weight N of bitsandbytes 0.50.2, as transformers saves it:
//   4 bit   N                                u8 [(elements + 1) / 2, 1], two codes to the byte, the first in the high
//                                            nibble; or another type of the same bytes (bnb_4bit_quant_storage)
//           N.absmax                         f32 [blocks], or u8 codes of them (double quantization)
//           N.quant_map                      f32 [16], what the codes mean
//           N.nested_absmax                  f32 [blocks / nested_blocksize, rounded up]
//           N.nested_quant_map               f32 [256]
//           N.quant_state.bitsandbytes__nf4  u8, JSON: quant_type, blocksize, dtype, shape; nested_blocksize,
//                                            nested_dtype, nested_offset
//   8 bit   M.weight                         i8 [out, in]
//           M.SCB                            f32 [out], the largest magnitude of each row
//           M.weight_format                  u8 scalar, 0: rows as they are (others are a GPU's own tiles)
namespace ropewalk::formats::quantized {
namespace {

constexpr std::string_view kState = ".quant_state.bitsandbytes__";
constexpr std::uint64_t kMaxStateBytes = std::uint64_t{1} << 16;
constexpr std::uint64_t kChunkElements = std::uint64_t{1} << 16;
constexpr const char* kSaveAgain = "the checkpoint is damaged, or by another version: save it again";

struct State {
  FourBitBlocks blocks;
  std::vector<std::uint64_t> shape;
  std::uint64_t nested_block = 0;  // 0: absmax is plain
  float nested_offset = 0;
};

/// What quant_state says. Holds the text's place for messages.
class StateReader {
 public:
  explicit StateReader(const TensorPtr& stored) : tensor_(*stored) {
    const LazyTensor& tensor = *stored;
    if (tensor.info().bytes() > kMaxStateBytes)
      fail_packed(tensor,
                  "is " + std::to_string(tensor.info().bytes()) + " bytes of JSON, expected at most " +
                      std::to_string(kMaxStateBytes),
                  kSaveAgain);
    std::string text(tensor.info().bytes(), '\0');
    PackedBytes(stored).read(0, std::as_writable_bytes(std::span(text)));
    json_ = parse_json(std::string(tensor.file()) + ": '" + tensor.name() + "'", text);
    if (!json_.is_object()) fail_packed(tensor, "holds " + shown(json_) + ", expected a JSON object", kSaveAgain);
  }

  State read() const {
    State state{};
    const auto type = four_bit_type(text("quant_type"));
    if (!type) fail("quant_type", "nf4 or fp4");
    const auto dtype = dtype_from_name(text("dtype"));
    if (dtype != DType::f16 && dtype != DType::bf16 && dtype != DType::f32)
      fail("dtype", "float16, bfloat16 or float32");
    state.blocks = {*type, size("blocksize"), *dtype};
    const Json& shape = value("shape");
    if (!shape.is_array() || shape.empty() || shape.size() > 8) fail("shape", "a list of sizes");
    for (const Json& one : shape) {
      if (!one.is_number_unsigned()) fail("shape", "a list of sizes");
      state.shape.push_back(one.get<std::uint64_t>());
    }
    if (!json_.contains("nested_blocksize") && !json_.contains("nested_offset")) return state;
    state.nested_block = size("nested_blocksize");
    if (text("nested_dtype") != "float32") fail("nested_dtype", "float32");
    const Json& offset = value("nested_offset");
    if (!offset.is_number()) fail("nested_offset", "a number");
    state.nested_offset = static_cast<float>(offset.get<double>());
    if (!std::isfinite(state.nested_offset)) fail("nested_offset", "a number that a float holds");
    return state;
  }

 private:
  [[noreturn]] void fail(const char* key, const std::string& expected) const {
    fail_packed(tensor_,
                std::string("says '") + key + "' is " + (json_.contains(key) ? shown(json_[key]) : "nothing") +
                    ", expected " + expected,
                kSaveAgain);
  }
  const Json& value(const char* key) const {
    if (!json_.contains(key)) fail(key, "a value");
    return json_[key];
  }
  std::string text(const char* key) const {
    if (!value(key).is_string()) fail(key, "a word");
    return value(key).get<std::string>();
  }
  /// Of a block: a power of two, as the library takes.
  std::uint64_t size(const char* key) const {
    const Json& found = value(key);
    if (!found.is_number_unsigned() || !std::has_single_bit(found.get<std::uint64_t>()) ||
        found.get<std::uint64_t>() > (std::uint64_t{1} << 20))
      fail(key, "a power of two, at most 1048576");
    return found.get<std::uint64_t>();
  }

  const LazyTensor& tensor_;
  Json json_;
};

/// The tables that the library itself computes with, whatever the file's say: other ones are another type.
void check_levels(const TensorPtr& stored, FourBitType type) {
  const LazyTensor& map = *stored;
  std::array<float, 16> found;
  PackedBytes(stored).read_f32(0, found);
  const auto levels = four_bit_levels(type);
  for (std::size_t code = 0; code < 16; ++code)
    if (!(std::abs(found[code] - levels[code]) <= 1e-6f))
      throw Error(ErrorKind::unsupported, {.path = std::string(map.file())},
                  "'" + map.name() + "' has " + trimmed(found[code]) + " for code " + std::to_string(code) +
                      ", expected " + trimmed(levels[code]) + ", the level of " + four_bit_name(type),
                  "the weights are of a type of their own: use the unquantized checkpoint");
}

class FourBitTensor final : public LazyTensor {
 public:
  FourBitTensor(TensorInfo info, const State& state, PackedBytes packed, PackedBytes absmax, PackedBytes nested_absmax,
                std::array<float, 256> nested_map)
      : LazyTensor(std::move(info)),
        state_(state),
        packed_(std::move(packed)),
        absmax_(std::move(absmax)),
        nested_absmax_(std::move(nested_absmax)),
        nested_map_(nested_map) {}

  std::string_view file() const noexcept override { return packed_.file(); }

  void read_f32(RowRange range, std::span<float> values) const override {
    const std::uint64_t begin = range.begin * info().columns(), end = range.end * info().columns();
    std::vector<std::byte> bytes;
    std::vector<float> scales;
    for (std::uint64_t first = begin; first < end;) {
      const std::uint64_t stop = std::min(end, first + kChunkElements);
      bytes.resize((stop + 1) / 2 - first / 2);
      packed_.read(first / 2, bytes);
      read_scales(first / state_.blocks.block_elements, (stop - 1) / state_.blocks.block_elements + 1, scales);
      decode_four_bit(state_.blocks, first, bytes, scales, values.subspan(first - begin, stop - first));
      first = stop;
    }
  }

 private:
  /// Of blocks [begin, end): plain, or level times the nested absmax, plus the offset, each a rounded f32 operation.
  void read_scales(std::uint64_t begin, std::uint64_t end, std::vector<float>& scales) const {
    scales.resize(end - begin);
    if (state_.nested_block == 0) return absmax_.read_f32(begin, scales);
    std::vector<std::byte> codes(scales.size());
    absmax_.read(begin, codes);
    const std::uint64_t first = begin / state_.nested_block;
    std::vector<float> outer((end - 1) / state_.nested_block + 1 - first);
    nested_absmax_.read_f32(first, outer);
    for (std::uint64_t block = begin; block < end; ++block) {
      const float level = nested_map_[std::to_integer<std::size_t>(codes[block - begin])];
      const float scaled = level * outer[block / state_.nested_block - first];
      scales[block - begin] = scaled + state_.nested_offset;
    }
  }

  State state_;
  PackedBytes packed_, absmax_, nested_absmax_;
  std::array<float, 256> nested_map_;
};

std::uint64_t blocks_of(std::uint64_t elements, std::uint64_t block) {
  return elements / block + (elements % block != 0 ? 1 : 0);
}

void read_four_bit(PackedTensors& tensors, const std::string& name, const std::string& kind, Quantization& found) {
  const std::string state_name = name + std::string(kState) + kind;
  const TensorPtr state_tensor = tensors.find(state_name);
  const State state = StateReader(state_tensor).read();
  tensors.drop(state_name);
  if (four_bit_name(state.blocks.type) != kind)
    fail_packed(*state_tensor,
                std::string("says quant_type is ") + four_bit_name(state.blocks.type) + ", its name says " + kind,
                kSaveAgain);
  const TensorPtr packed = tensors.take(
      name, {DType::u8, DType::i8, DType::bf16, DType::f16, DType::f32, DType::u16, DType::i32, DType::f64, DType::i64},
      *state_tensor);
  const auto elements = element_count(state.shape);
  const auto item = static_cast<std::uint64_t>(info(packed->dtype()).block_bytes);
  if (!elements || blocks_of(*elements, 2) > packed->info().bytes() ||
      packed->info().bytes() - blocks_of(*elements, 2) >= item)
    fail_packed(*packed, "has " + std::to_string(packed->info().bytes()) +
                             " bytes, expected two elements a byte of shape " + shape_text(state.shape));
  const std::uint64_t blocks = blocks_of(*elements, state.blocks.block_elements);
  const TensorPtr absmax = state.nested_block > 0 ? tensors.take(name + ".absmax", {DType::u8}, *packed, {blocks})
                                                  : tensors.take(name + ".absmax", {DType::f32}, *packed, {blocks});
  check_levels(tensors.take(name + ".quant_map", {DType::f32}, *packed, {16}), state.blocks.type);
  PackedBytes nested;
  std::array<float, 256> map{};
  if (state.nested_block > 0) {
    nested = PackedBytes(
        tensors.take(name + ".nested_absmax", {DType::f32}, *packed, {blocks_of(blocks, state.nested_block)}));
    PackedBytes(tensors.take(name + ".nested_quant_map", {DType::f32}, *packed, {256})).read_f32(0, map);
  }
  tensors.replace(name, std::make_shared<FourBitTensor>(TensorInfo{name, state.shape, state.blocks.dtype}, state,
                                                        PackedBytes(packed), PackedBytes(absmax), nested, map));
  ++found.weights;
  found.method = "bitsandbytes " + kind + (state.nested_block > 0 ? ", double quantization" : "");
}

/// LLM.int8: code * row's absmax * (1 / 127 as a float), in this order, each product rounded to f32; then once to the
/// type of the model.
class Int8Tensor final : public LazyTensor {
 public:
  Int8Tensor(TensorInfo info, TensorPtr codes, PackedBytes row_absmax)
      : LazyTensor(std::move(info)), codes_(std::move(codes)), row_absmax_(std::move(row_absmax)) {}

  std::string_view file() const noexcept override { return codes_->file(); }

  void read_f32(RowRange range, std::span<float> values) const override {
    if (values.empty()) return;
    codes_->read_f32(range, values);
    std::vector<float> scales(range.size());
    row_absmax_.read_f32(range.begin, scales);
    const std::uint64_t columns = info().columns();
    for (std::uint64_t row = 0; row < range.size(); ++row) {
      const std::span<float> own = values.subspan(row * columns, columns);
      for (float& value : own) value = value * scales[row] * 7.874015718698502e-3f;
      round_through(dtype(), own);
    }
  }

 private:
  TensorPtr codes_;
  PackedBytes row_absmax_;
};

void read_int8(PackedTensors& tensors, const std::string& module, DType dtype, Quantization& found) {
  const std::string name = module + ".weight";
  const TensorPtr scales = tensors.find(module + ".SCB");
  const TensorPtr codes = tensors.take(name, {DType::i8}, *scales);
  if (codes->info().shape.size() != 2)
    fail_packed(*codes, "has shape " + shape_text(codes->info().shape) + ", expected two axes");
  const PackedBytes absmax(tensors.take(module + ".SCB", {DType::f32}, *codes, {codes->info().shape[0]}));
  if (const TensorPtr format = tensors.find(module + ".weight_format")) {
    std::array<float, 1> value{};
    if (format->info().elements() == 1) format->read_f32({0, 1}, value);
    if (format->info().elements() != 1 || value[0] != 0)
      throw Error(ErrorKind::unsupported, {.path = std::string(format->file())},
                  "'" + format->name() + "' is " + trimmed(value[0]) + ", expected 0: rows as they are",
                  "it was saved in a GPU's own layout: save it again with bitsandbytes 0.42 or newer");
    tensors.drop(format->name());
  }
  tensors.replace(name, std::make_shared<Int8Tensor>(TensorInfo{name, codes->info().shape, dtype}, codes, absmax));
  ++found.weights;
  found.method = "bitsandbytes int8";
}

void check_kind(const Method& method, const std::string& name, const std::string& kind) {
  const auto said = method.fields().optional_string("bnb_4bit_quant_type");
  if (said && *said != kind)
    method.fields().fail(ErrorKind::bad_input, "bnb_4bit_quant_type",
                         "'bnb_4bit_quant_type' is \"" + *said + "\", and '" + name + "' was saved as " + kind,
                         "take configuration and weights of the same checkpoint");
}

}  // namespace

Quantization read_bitsandbytes(PackedTensors& tensors, const Method& method) {
  Quantization found;
  for (const char* kind : {"nf4", "fp4"})
    for (const std::string& name : tensors.ending_in(std::string(kState) + kind))
      check_kind(method, name, kind), read_four_bit(tensors, name, kind, found);
  for (const std::string& module : tensors.ending_in(".SCB")) read_int8(tensors, module, method.dtype(), found);
  return found;
}

}  // namespace ropewalk::formats::quantized
