#include <algorithm>
#include <array>

#include "formats/quantized/methods.h"
#include "lib/quantized/rounding.h"

// A linear layer M [out, in] of GPTQ (AutoGPTQ, GPTQModel 7.7), b bits, G groups of inputs:
//   M.qweight  i32 [in * b / 32, out]  each column the codes of one output, a stream of bits from the lowest up
//   M.qzeros   i32 [G, out * b / 32]   each row the zero points of one group, a stream of bits likewise
//   M.scales   f16 or bf16 [G, out]
//   M.g_idx    i32 [in]                the group of each input; may be absent: inputs in order
// W[row, i] = scale * (code - zero), one rounding to the type of the scales. In checkpoint_format "gptq" a zero point is
// stored less one (2, 4 and 8 bits: one is added to each field of a word at once, and an overflow runs into the next field),
// in "gptq_v2" as it is.
namespace ropewalk::formats::quantized {
namespace {

constexpr std::uint64_t kLineWords = 16;  // of a line of the cache: neighbours in a tile, which is read down

struct Layout {
  std::uint64_t out, in, groups;
  unsigned bits;
  bool stored_less_one;
};

class GptqTensor final : public LazyTensor {
 public:
  GptqTensor(TensorInfo info, const Layout& layout, PackedBytes codes, PackedBytes zeros, PackedBytes scales,
             std::vector<std::uint32_t> group)
      : LazyTensor(std::move(info)),
        layout_(layout),
        codes_(std::move(codes)),
        zeros_(std::move(zeros)),
        scales_(std::move(scales)),
        group_(std::move(group)) {}

  std::uint64_t row_unit() const noexcept override { return tile_rows(info()); }
  std::string_view file() const noexcept override { return codes_.file(); }

  void read_f32(RowRange range, std::span<float> values) const override {
    for (std::uint64_t row = range.begin; row < range.end;) {
      const std::uint64_t end = std::min(range.end, row + row_unit());
      read_tile(row, end, values.subspan((row - range.begin) * layout_.in, (end - row) * layout_.in));
      row = end;
    }
    round_through(dtype(), values);
  }

 private:
  /// A piece of each row of a packed matrix: words [from, to) of `rows` rows of `row_words`.
  static std::vector<std::uint32_t> piece(const PackedBytes& matrix, std::uint64_t rows, std::uint64_t row_words,
                                          std::uint64_t from, std::uint64_t to) {
    std::vector<std::uint32_t> words(rows * (to - from));
    matrix.read({0, rows, row_words * 4, from * 4, to * 4}, std::as_writable_bytes(std::span(words)));
    return words;
  }

  void read_tile(std::uint64_t begin, std::uint64_t end, std::span<float> values) const {
    const std::uint64_t rows = end - begin, in = layout_.in;
    const unsigned bits = layout_.bits;
    const std::vector<std::uint32_t> codes = piece(codes_, in * bits / 32, layout_.out, begin, end);
    std::vector<float> scales(layout_.groups * rows), zeros(scales.size());
    for (std::uint64_t group = 0; group < layout_.groups; ++group)
      scales_.read_f32(group * layout_.out + begin, std::span(scales).subspan(group * rows, rows));
    read_zeros(begin, end, zeros);
    const auto put = [&](std::uint64_t row, std::uint64_t i, std::uint32_t code) {
      const std::uint64_t at = group_[i] * rows + row;
      values[row * in + i] = scales[at] * (static_cast<float>(code) - zeros[at]);
    };
    for (std::uint64_t first = 0; first < rows; first += kLineWords) {
      const std::uint64_t last = std::min(rows, first + kLineWords);
      if (bits == 3) {
        for (std::uint64_t row = first; row < last; ++row)
          for (std::uint64_t i = 0; i < in; ++i) put(row, i, bits_at(codes.data() + row, rows, i * bits, bits));
        continue;
      }
      const std::uint64_t per_word = 32 / bits;
      for (std::uint64_t word = 0; word * per_word < in; ++word)
        for (std::uint64_t row = first; row < last; ++row) {
          std::uint32_t left = codes[word * rows + row];
          for (std::uint64_t i = word * per_word; i < (word + 1) * per_word; ++i, left >>= bits)
            put(row, i, left & ((1u << bits) - 1));
        }
    }
  }

  void read_zeros(std::uint64_t begin, std::uint64_t end, std::span<float> zeros) const {
    const unsigned bits = layout_.bits;
    const std::uint64_t row_words = layout_.out * bits / 32, first = begin / 32 * 32;
    const std::uint64_t from = first * bits / 32, to = std::min(row_words, (end + 31) / 32 * bits);
    std::vector<std::uint32_t> words = piece(zeros_, layout_.groups, row_words, from, to);
    const std::uint32_t mask = (1u << bits) - 1;
    if (layout_.stored_less_one && bits != 3)
      for (std::uint32_t& word : words) word += 0xffffffffu / mask;  // one in every field
    for (std::uint64_t group = 0; group < layout_.groups; ++group)
      for (std::uint64_t row = begin; row < end; ++row) {
        std::uint32_t zero = bits_at(words.data() + group * (to - from), 1, (row - first) * bits, bits);
        if (layout_.stored_less_one && bits == 3) zero = (zero + 1) & mask;
        zeros[group * (end - begin) + row - begin] = static_cast<float>(zero);
      }
  }

  Layout layout_;
  PackedBytes codes_, zeros_, scales_;
  std::vector<std::uint32_t> group_;
};

/// Symmetric quantization has one zero point, 2^(bits - 1): what is stored says which of the two ways it is stored in.
std::optional<bool> less_one_by_value(const PackedBytes& zeros, const Layout& layout) {
  const std::uint64_t row_words = layout.out * layout.bits / 32;
  std::vector<std::uint32_t> words(row_words);
  zeros.read(0, std::as_writable_bytes(std::span(words)));
  const std::uint32_t middle = 1u << (layout.bits - 1), first = bits_at(words.data(), 1, 0, layout.bits);
  if (first != middle && first != middle - 1) return std::nullopt;
  for (std::uint64_t row = 0; row < layout.out; ++row)
    if (bits_at(words.data(), 1, row * layout.bits, layout.bits) != first) return std::nullopt;
  return first != middle;
}

std::vector<std::uint32_t> read_groups(const PackedBytes& g_idx, const LazyTensor& tensor, std::uint64_t groups) {
  std::vector<std::uint32_t> group(g_idx.info().elements());
  g_idx.read(0, std::as_writable_bytes(std::span(group)));
  for (std::uint64_t i = 0; i < group.size(); ++i)
    if (group[i] >= groups)
      fail_packed(tensor, "gives input " + std::to_string(i) + " to group " +
                              std::to_string(static_cast<std::int32_t>(group[i])) + ", expected one of " +
                              std::to_string(groups));
  return group;
}

class GptqReader {
 public:
  GptqReader(PackedTensors& tensors, const Method& method)
      : tensors_(tensors),
        method_(method),
        fields_(method.fields()),
        bits_(static_cast<unsigned>(fields_.integer("bits", 2, 8))),
        sym_(fields_.boolean("sym", true)) {
    const std::string format = fields_.optional_string("checkpoint_format").value_or("gptq");
    if (format != "gptq" && format != "gptq_v2")
      fields_.fail(ErrorKind::unsupported, "checkpoint_format",
                   "checkpoint_format is '" + format + "', read are gptq and gptq_v2",
                   "save it again in format gptq, or use the unquantized checkpoint");
    less_one_ = format == "gptq";
  }

  Quantization read() {
    Quantization found;
    for (const std::string& module : tensors_.ending_in(".qweight")) {
      read_module(module);
      ++found.weights;
    }
    found.method = "GPTQ, " + std::to_string(bits_) + " bits, " + (sym_ ? "symmetric" : "asymmetric");
    if (relabelled_ > 0)
      method_.warnings.push_back(method_.config.path + " says checkpoint_format " + (less_one_ ? "gptq" : "gptq_v2") +
                                 ", but the zero points of " + std::to_string(relabelled_) + " weights are those of " +
                                 (less_one_ ? "gptq_v2" : "gptq") + ": read by what is stored");
    return found;
  }

 private:
  void read_module(const std::string& module) {
    const TensorPtr codes = tensors_.find(module + ".qweight");
    const auto& shape = codes->info().shape;
    if (codes->dtype() != DType::i32 || shape.size() != 2)
      fail_packed(*codes, "is " + std::string(info(codes->dtype()).name) + " " + shape_text(shape) +
                              ", expected i32 of two axes");
    Layout layout{};
    layout.out = shape[1];
    const TensorPtr g_idx = tensors_.find(module + ".g_idx");
    layout.in = g_idx ? g_idx->info().elements() : shape[0] * 32 / bits_;
    // bits of a module may differ from the configuration's ("dynamic")
    layout.bits = layout.in > 0 && layout.in <= kMostWidth && shape[0] <= kMostWidth
                      ? static_cast<unsigned>(shape[0] * 32 / layout.in)
                      : 0;
    if ((layout.bits != 2 && layout.bits != 3 && layout.bits != 4 && layout.bits != 8) ||
        layout.in * layout.bits != shape[0] * 32 || layout.out % 32 != 0)
      fail_packed(*codes, "has shape " + shape_text(shape) + " for " + std::to_string(layout.in) +
                              " inputs, expected 2, 3, 4 or 8 bits for each, and outputs in multiples of 32");
    const TensorPtr scales = tensors_.take(module + ".scales", {DType::f16, DType::bf16, DType::f32}, *codes);
    if (scales->info().shape.size() != 2 || scales->info().shape[1] != layout.out || scales->info().shape[0] == 0 ||
        scales->info().shape[0] > layout.in)
      fail_packed(*scales, "has shape " + shape_text(scales->info().shape) + ", expected [groups, " +
                               std::to_string(layout.out) + "]");
    layout.groups = scales->info().shape[0];
    check_configuration(*codes, layout);
    const PackedBytes zeros(
        tensors_.take(module + ".qzeros", {DType::i32}, *codes, {layout.groups, layout.out * layout.bits / 32}));
    layout.stored_less_one = less_one_;
    if (const auto stored = sym_ ? less_one_by_value(zeros, layout) : std::nullopt; stored && *stored != less_one_) {
      layout.stored_less_one = *stored;
      ++relabelled_;
    }
    std::vector<std::uint32_t> group;
    if (g_idx) {
      group = read_groups(PackedBytes(tensors_.take(module + ".g_idx", {DType::i32}, *codes, {layout.in})), *g_idx,
                          layout.groups);
    } else {
      const std::uint64_t size = (layout.in + layout.groups - 1) / layout.groups;
      for (std::uint64_t i = 0; i < layout.in; ++i) group.push_back(static_cast<std::uint32_t>(i / size));
    }
    drop_empty_bias(module);
    const TensorInfo made{module + ".weight", {layout.out, layout.in}, scales->dtype()};
    tensors_.replace(codes->name(), std::make_shared<GptqTensor>(made, layout, PackedBytes(codes), zeros,
                                                                 PackedBytes(scales), std::move(group)));
  }

  /// What a layer is packed as is what quantization_config says, unless that has rules of its own for single layers.
  void check_configuration(const LazyTensor& codes, const Layout& layout) const {
    const Json* rules = fields_.find_set("dynamic");
    if (rules && !rules->empty()) return;
    if (layout.bits != bits_)
      fail_packed(codes, "has " + std::to_string(layout.bits) + " bits for each input, and quantization_config says " +
                             std::to_string(bits_));
    const auto groups = groups_said(fields_, "group_size", layout.in);
    if (groups && *groups != layout.groups)
      fail_packed(codes, "has scales for " + std::to_string(layout.groups) + " groups of its " +
                             std::to_string(layout.in) + " inputs, and group_size of quantization_config makes " +
                             std::to_string(*groups));
  }

  /// AutoGPTQ wrote a bias of zeros to every layer, of models that have none, too.
  void drop_empty_bias(const std::string& module) {
    const TensorPtr bias = tensors_.find(module + ".bias");
    const Json& config = method_.config.json;
    if (!bias || config.value("attention_bias", Json()) == true || config.value("mlp_bias", Json()) == true) return;
    if (bias->info().elements() > kMostWidth) return;
    std::vector<float> values(bias->info().elements());
    bias->read_f32({0, bias->info().rows()}, values);
    if (std::all_of(values.begin(), values.end(), [](float value) { return value == 0; })) tensors_.drop(bias->name());
  }

  PackedTensors& tensors_;
  const Method& method_;
  JsonFields fields_;
  unsigned bits_;
  bool sym_, less_one_ = true;
  std::size_t relabelled_ = 0;
};

}  // namespace

Quantization read_gptq(PackedTensors& tensors, const Method& method) { return GptqReader(tensors, method).read(); }

}  // namespace ropewalk::formats::quantized
