#include <algorithm>
#include <array>
#include <set>
#include <string_view>

#include "formats/quantized/methods.h"
#include "formats/quantized/scaled.h"

// A linear layer M [out, in] of compressed-tensors 0.20.0, by what stands beside its weight:
//   pack-quantized   weight_packed i32 [out, in * b / 32 rounded up], each row a stream of b bits from the lowest up, codes
//                    less -2^(b-1); weight_shape i64 [2]; weight_scale [out, G]; weight_zero_point i32 [out * b / 32
//                    rounded up, G], each column such a stream, where the weights are asymmetric; weight_g_idx i32 [in],
//                    the group of each input, where they follow the activations (up to 0.13)
//   int-, float-, naive-quantized
//                    weight i8 or f8 [out, in]; weight_scale [1], [out, 1], [out, G] or [blocks, blocks];
//                    weight_zero_point i8 of the scale's shape
//   nvfp4-pack       weight_packed u8 [out, in / 2], the even element in the low half; weight_scale f8 [out, in / 16];
//                    weight_global_scale f32 [1], which divides
//   mxfp4-pack       weight_packed likewise; weight_scale u8 [out, in / 32], exponents
// Scales of activations (input_scale, input_global_scale, ...) do not touch the weights: they are left out.
namespace ropewalk::formats::quantized {
namespace {

/// Values of 'format' whose tensors are read; "mixed-precision" is several of them.
constexpr std::array<std::string_view, 8> kFormats = {
    "dense",          "int-quantized",   "float-quantized",      "naive-quantized",
    "pack-quantized", "mixed-precision", "nvfp4-pack-quantized", "mxfp4-pack-quantized"};

std::uint64_t words_for(std::uint64_t fields, unsigned bits) { return (fields * bits + 31) / 32; }

class CompressedReader {
 public:
  CompressedReader(PackedTensors& tensors, const Method& method) : tensors_(tensors), method_(method) {
    refuse_others();
    read_groups();
  }

  Quantization read() {
    Quantization found;
    for (const char* dropped : {".input_scale", ".input_zero_point", ".input_global_scale", ".output_scale",
                                ".output_zero_point", ".k_scale", ".v_scale"})
      for (const std::string& module : tensors_.ending_in(dropped)) tensors_.drop(module + dropped);
    for (const std::string& module : tensors_.ending_in(".weight_packed")) {
      const TensorPtr packed = tensors_.find(module + ".weight_packed");
      require_matrix(*packed);
      if (packed->dtype() == DType::u8) read_four_bit(module, packed, found);
      else read_packed(module, packed, found);
      ++found.weights;
    }
    for (const std::string& module : tensors_.ending_in(".weight_scale")) {
      read_plain(module, found);
      ++found.weights;
    }
    return found;
  }

 private:
  /// What would make other weights of the stored ones, or is stored otherwise.
  void refuse_others() const {
    const JsonFields fields = method_.fields();
    const auto refuse = [&](const char* key, const std::string& problem) {
      fields.fail(ErrorKind::unsupported, key, problem, "use the unquantized checkpoint it was made from");
    };
    const auto says_nothing = [](const Json& value) { return value.is_object() && value.empty(); };
    if (const Json* format = fields.find_set("format");
        format && (!format->is_string() || std::ranges::find(kFormats, format->get<std::string>()) == kFormats.end())) {
      std::string read;
      for (const std::string_view one : kFormats) read += (read.empty() ? "" : ", ") + std::string(one);
      refuse("format", "'format' of compressed-tensors is " + shown(*format) + ", which is not read; read are " + read);
    }
    if (const Json* transform = fields.find_set("transform_config"); transform && !says_nothing(*transform)) {
      const auto groups = transform->is_object() ? transform->find("config_groups") : transform->end();
      if (!transform->is_object() || groups == transform->end() || !says_nothing(*groups))
        refuse("transform_config",
               "'transform_config' rotates activations and weights against each other while the model runs, which no "
               "other file says: without it the weights are another model's");
    }
    if (const Json* sparsity = fields.find_set("sparsity_config"); sparsity && !says_nothing(*sparsity)) {
      const auto format = sparsity->is_object() ? sparsity->find("format") : sparsity->end();
      if (!sparsity->is_object() || format == sparsity->end() || *format != "dense")
        refuse("sparsity_config", "'sparsity_config' is " + shown(*sparsity) + ", expected the format \"dense\"");
    }
  }

  /// How config_groups says that the scales of a group of layers lie.
  struct Strategy {
    std::string name;
    std::uint64_t group;  // columns of one, of "group"
    bool fits(std::uint64_t rows, std::uint64_t columns, std::uint64_t out, std::uint64_t in) const {
      if (name == "tensor") return rows == 1 && columns == 1;
      if (name == "channel") return rows == out && columns == 1;
      if (name == "group" && group > 0) return rows == out && columns == (in + group - 1) / group;
      return true;  // "block" is held against block_structure
    }
  };

  /// Of each group of layers: how many bits, and the blocks of its scales.
  void read_groups() {
    const auto groups = method_.quantization.find("config_groups");
    if (groups == method_.quantization.end() || !groups->is_object()) return;
    for (const auto& [name, group] : groups->items()) {
      if (!group.is_object() || !group.contains("weights") || !group["weights"].is_object()) continue;
      const Json& weights = group["weights"];
      const JsonFields fields(method_.config.path, method_.config.text, weights);
      if (const auto bits = fields.optional_integer("num_bits", 1, 16)) bits_.push_back(static_cast<unsigned>(*bits));
      symmetric_ = fields.boolean("symmetric", true) || symmetric_;
      types_.insert(fields.optional_string("type").value_or("int"));
      const std::int64_t size = fields.optional_integer("group_size", -1, std::int64_t(kMostWidth)).value_or(0);
      strategies_.push_back({fields.optional_string("strategy").value_or(size > 0 ? "group" : ""),
                             size > 0 ? static_cast<std::uint64_t>(size) : 0});
      if (const auto block = weights.find("block_structure");
          block != weights.end() && block->is_array() && block->size() == 2 && (*block)[0].is_number_unsigned() &&
          (*block)[1].is_number_unsigned() && (*block)[0] != 0u && (*block)[1] != 0u &&
          (*block)[0].get<std::uint64_t>() <= kMostWidth && (*block)[1].get<std::uint64_t>() <= kMostWidth)
        block_ = {(*block)[0].get<std::uint64_t>(), (*block)[1].get<std::uint64_t>()};
    }
  }

  /// The grid that scales of this shape make over [out, in]; Error(bad_input) if it is none.
  ScaledLayout grid(const LazyTensor& scale, std::uint64_t out, std::uint64_t in) const {
    const auto& shape = scale.info().shape;
    const std::uint64_t rows = shape.size() == 2   ? shape[0]
                               : shape.size() == 1 ? shape[0]
                                                   : 1,
                        columns = shape.size() == 2 ? shape[1] : 1;
    if (!strategies_.empty() &&
        std::ranges::none_of(strategies_, [&](const Strategy& one) { return one.fits(rows, columns, out, in); }))
      fail_packed(scale,
                  "has shape " + shape_text(shape) + " for a weight of " +
                      shape_text(std::array<std::uint64_t, 2>{out, in}) + ", and config_groups says strategy \"" +
                      strategies_.front().name + "\"" +
                      (strategies_.front().group > 0 ? " with group_size " + std::to_string(strategies_.front().group)
                                                     : std::string()));
    if (shape.size() <= 2 && rows == 1 && columns == 1) return {out, in, 1};
    if (shape.size() == 2 && rows == out && columns > 0 && in % columns == 0) return {1, in / columns, columns};
    if (shape.size() == 1 && rows == out) return {1, in, 1};
    const auto [block_rows, block_columns] = block_;
    if (shape.size() == 2 && block_rows > 0 && rows == (out + block_rows - 1) / block_rows &&
        columns == (in + block_columns - 1) / block_columns)
      return {block_rows, block_columns, columns};
    fail_packed(scale, "has shape " + shape_text(shape) + " for a weight of " +
                           shape_text(std::array<std::uint64_t, 2>{out, in}) +
                           ", expected one scale, one for each row, groups of columns or the configuration's blocks");
  }

  void read_plain(const std::string& module, Quantization& found) {
    const TensorPtr scale = tensors_.find(module + ".weight_scale");
    const TensorPtr codes = tensors_.take(module + ".weight", {DType::i8, DType::f8_e4m3}, *scale);
    const auto& shape = codes->info().shape;
    require_matrix(*codes);
    const char* const type = codes->dtype() == DType::i8 ? "int" : "float";
    if (!types_.empty() && !types_.contains(type))
      fail_packed(*codes, "holds " + std::string(info(codes->dtype()).name) + ", and config_groups says type \"" +
                              *types_.begin() + "\"");
    tensors_.take(scale->name(), {DType::f16, DType::bf16, DType::f32}, *codes);
    const ScaledLayout layout = grid(*scale, shape[0], shape[1]);
    RowZeros zeros;
    if (const TensorPtr zero = tensors_.find(module + ".weight_zero_point")) {
      if (codes->dtype() == DType::i8) tensors_.take(zero->name(), {DType::i8}, *codes, scale->info().shape);
      else tensors_.take(zero->name(), {DType::i8, DType::f8_e4m3}, *codes, scale->info().shape);
      zeros = [bytes = PackedBytes(zero), layout](std::uint64_t row, std::span<float> values) {
        bytes.read_f32(row / layout.block_rows * layout.scale_columns, values);
      };
    }
    if (!zeros && codes->dtype() == DType::i8) require_zeros(*codes);
    put(
        module, codes->name(), {shape[0], shape[1]}, scale->dtype(), layout, codes,
        [codes](std::uint64_t row, std::span<float> values) {
          codes->read_f32({row, row + 1}, values);
        },
        std::move(zeros), scale);
    found.method = std::string("compressed-tensors, ") + (codes->dtype() == DType::i8 ? "int8" : "fp8");
  }

  void read_packed(const std::string& module, const TensorPtr& packed, Quantization& found) {
    if (packed->dtype() != DType::i32)
      fail_packed(*packed, "holds " + std::string(info(packed->dtype()).name) + ", expected i32");
    const TensorPtr shape = tensors_.take(module + ".weight_shape", {DType::i64, DType::i32}, *packed, {2});
    std::array<float, 2> sizes;
    shape->read_f32({0, 1}, sizes);  // of any model far below 2^24
    if (!(sizes[0] >= 1 && sizes[0] <= 0x1p24f && sizes[1] >= 1 && sizes[1] <= 0x1p24f))
      fail_packed(*shape, "holds sizes that no weight has");
    const std::uint64_t out = static_cast<std::uint64_t>(sizes[0]), in = static_cast<std::uint64_t>(sizes[1]);
    const auto& words = packed->info().shape;
    const auto fits = [&](unsigned b) { return b >= 1 && b <= 8 && words[1] == words_for(in, b); };
    const auto found_bits = std::find_if(bits_.begin(), bits_.end(), fits);
    if (words[0] != out || found_bits == bits_.end())
      fail_packed(*packed, "has shape " + shape_text(words) + " for a weight of " +
                               shape_text(std::array<std::uint64_t, 2>{out, in}) +
                               ", expected rows of the bits that config_groups name");
    const unsigned bits = *found_bits;
    const TensorPtr scale = tensors_.take(module + ".weight_scale", {DType::f16, DType::bf16, DType::f32}, *packed);
    ScaledLayout layout = grid(*scale, out, in);
    if (const TensorPtr order = tensors_.take_if(module + ".weight_g_idx", {DType::i32}, *packed, {in}))
      layout.groups = read_groups(order, layout, in);
    const float middle = static_cast<float>(1u << (bits - 1));
    RowZeros zeros;
    if (const TensorPtr zero = tensors_.take_if(module + ".weight_zero_point", {DType::i32}, *packed,
                                                {words_for(out, bits), layout.scale_columns}))
      zeros = [bytes = PackedBytes(zero), layout, bits, middle](std::uint64_t row, std::span<float> values) {
        const std::uint64_t word = row * bits / 32, last = (row * bits + bits - 1) / 32, columns = layout.scale_columns;
        std::vector<std::uint32_t> streams((last - word + 1) * columns);
        bytes.read(word * columns * 4, std::as_writable_bytes(std::span(streams)));
        for (std::uint64_t column = 0; column < columns; ++column)
          values[column] =
              static_cast<float>(bits_at(streams.data() + column, columns, row * bits % 32, bits)) - middle;
      };
    if (!zeros) require_zeros(*packed);
    const std::uint64_t row_words = words[1];
    put(
        module, packed->name(), {out, in}, scale->dtype(), layout, packed,
        [bytes = PackedBytes(packed), row_words, bits, middle](std::uint64_t row, std::span<float> values) {
          std::vector<std::uint32_t> stream(row_words);
          bytes.read(row * row_words * 4, std::as_writable_bytes(std::span(stream)));
          for (std::uint64_t i = 0; i < values.size(); ++i)
            values[i] = static_cast<float>(bits_at(stream.data(), 1, i * bits, bits)) - middle;
        },
        std::move(zeros), scale);
    found.method = "compressed-tensors, " + std::to_string(bits) + " bits packed";
  }

  /// The group of each input, each as large as the others: the library puts inputs of a group side by side and cuts them
  /// into groups again. nullptr: one below 0 stands for inputs in order, as it does there.
  static std::shared_ptr<const std::vector<std::uint32_t>> read_groups(const TensorPtr& order,
                                                                       const ScaledLayout& layout, std::uint64_t in) {
    std::vector<std::uint32_t> groups(in);
    PackedBytes(order).read(0, std::as_writable_bytes(std::span(groups)));
    if (std::any_of(groups.begin(), groups.end(), [](std::uint32_t group) { return group >> 31 != 0; })) return nullptr;
    std::vector<std::uint64_t> inputs(layout.scale_columns);
    for (std::uint64_t i = 0; i < in; ++i) {
      if (groups[i] >= layout.scale_columns || layout.block_rows != 1)
        fail_packed(*order, "gives input " + std::to_string(i) + " to group " + std::to_string(groups[i]) +
                                ", expected one of " + std::to_string(layout.scale_columns) + " of each row");
      ++inputs[groups[i]];
    }
    for (std::uint64_t group = 0; group < inputs.size(); ++group)
      if (inputs[group] != layout.block_columns)
        fail_packed(*order, "gives group " + std::to_string(group) + " " + std::to_string(inputs[group]) +
                                " inputs, expected " + std::to_string(layout.block_columns) + " as every other");
    return std::make_shared<const std::vector<std::uint32_t>>(std::move(groups));
  }

  void read_four_bit(const std::string& module, const TensorPtr& packed, Quantization& found) {
    const std::uint64_t out = packed->info().shape[0], half = packed->info().shape[1], in = half * 2;
    const TensorPtr scale = tensors_.take(module + ".weight_scale", {DType::f8_e4m3, DType::u8}, *packed);
    const bool nv = scale->dtype() == DType::f8_e4m3;
    const std::uint64_t group = nv ? 16 : 32;
    if (scale->info().shape != std::vector<std::uint64_t>{out, in / group} || in % group != 0)
      fail_packed(*scale, "has shape " + shape_text(scale->info().shape) + ", expected " +
                              shape_text(std::array<std::uint64_t, 2>{out, in / group}));
    ScaledLayout layout{1, group, in / group, 0, !nv};
    if (nv) {
      const TensorPtr whole = tensors_.take(module + ".weight_global_scale", {DType::f32}, *packed, {1});
      std::array<float, 1> value;
      whole->read_f32({0, 1}, value);
      if (!(value[0] > 0)) fail_packed(*whole, "is not above zero");
      layout.divisor = value[0];
    }
    put(
        module, packed->name(), {out, in}, DType::bf16, layout, packed,
        [bytes = PackedBytes(packed), half](std::uint64_t row, std::span<float> values) {
          std::vector<std::uint8_t> codes(half);
          bytes.read(row * half, std::as_writable_bytes(std::span(codes)));
          for (std::uint64_t i = 0; i < half; ++i) {
            values[2 * i] = kFp4Values[codes[i] & 15];
            values[2 * i + 1] = kFp4Values[codes[i] >> 4];
          }
        },
        {}, scale);
    found.method = std::string("compressed-tensors, ") + (nv ? "NVFP4" : "MXFP4");
  }

  void put(const std::string& module, const std::string& place, std::vector<std::uint64_t> shape, DType dtype,
           const ScaledLayout& layout, const TensorPtr& codes_tensor, RowCodes codes, RowZeros zeros,
           const TensorPtr& scale) {
    tensors_.replace(place, scaled_tensor(TensorInfo{module + ".weight", std::move(shape), dtype}, layout, codes_tensor,
                                          std::move(codes), std::move(zeros), PackedBytes(scale)));
  }

  PackedTensors& tensors_;
  const Method& method_;
  /// Where no group of the checkpoint is symmetric, every layer has zero points.
  void require_zeros(const LazyTensor& codes) const {
    if (!types_.empty() && !symmetric_)
      fail_packed(codes, "has no zero points beside it, and config_groups says 'symmetric' is false");
  }

  std::vector<unsigned> bits_;
  std::vector<Strategy> strategies_;
  std::set<std::string> types_;  // "int", "float"; empty: no group of layers is described
  bool symmetric_ = false;       // any group is
  std::pair<std::uint64_t, std::uint64_t> block_{0, 0};
};

}  // namespace

Quantization read_compressed_tensors(PackedTensors& tensors, const Method& method) {
  return CompressedReader(tensors, method).read();
}

}  // namespace ropewalk::formats::quantized
