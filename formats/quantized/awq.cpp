#include <algorithm>
#include <array>

#include "formats/quantized/methods.h"
#include "lib/quantized/rounding.h"

// A linear layer M [out, in] of AWQ, version "gemm" (AutoAWQ 0.2.9), 4 bits, G groups of inputs:
//   M.qweight  i32 [in, out / 8]  eight outputs to the word: bits 4p hold output 0, 2, 4, 6, 1, 3, 5, 7 for p = 0..7
//   M.qzeros   i32 [G, out / 8]   zero points, likewise
//   M.scales   f16 or bf16 [G, out]
// W[row, i] = (code - zero) * scale of group i / (in / G), one rounding to the type of the scales.
namespace ropewalk::formats::quantized {
namespace {

constexpr std::array<unsigned, 8> kShift = {0, 16, 4, 20, 8, 24, 12, 28};  // of output 0..7 of a word

class AwqTensor final : public LazyTensor {
 public:
  AwqTensor(TensorInfo info, std::uint64_t groups, PackedBytes codes, PackedBytes zeros, PackedBytes scales)
      : LazyTensor(std::move(info)),
        groups_(groups),
        codes_(std::move(codes)),
        zeros_(std::move(zeros)),
        scales_(std::move(scales)) {}

  std::uint64_t row_unit() const noexcept override { return tile_rows(info()); }
  std::string_view file() const noexcept override { return codes_.file(); }

  void read_f32(RowRange range, std::span<float> values) const override {
    const std::uint64_t in = info().columns();
    for (std::uint64_t row = range.begin; row < range.end;) {
      const std::uint64_t end = std::min(range.end, row + row_unit());
      read_tile(row, end, values.subspan((row - range.begin) * in, (end - row) * in));
      row = end;
    }
    round_through(dtype(), values);
  }

 private:
  void read_tile(std::uint64_t begin, std::uint64_t end, std::span<float> values) const {
    const std::uint64_t in = info().columns(), out = info().rows(), rows = end - begin;
    const std::uint64_t from = begin / 8, to = (end + 7) / 8, group_size = in / groups_;
    std::vector<std::uint32_t> words(group_size * (to - from)), zeros(to - from);
    std::vector<float> scales(rows);
    for (std::uint64_t group = 0; group < groups_; ++group) {
      zeros_.read((group * (out / 8) + from) * 4, std::as_writable_bytes(std::span(zeros)));
      scales_.read_f32(group * out + begin, scales);
      codes_.read({group * group_size, group_size, out / 2, from * 4, to * 4},
                  std::as_writable_bytes(std::span(words)));
      for (std::uint64_t word = from; word < to; ++word) {
        const std::uint64_t first = std::max(begin, word * 8), last = std::min(end, word * 8 + 8);
        for (std::uint64_t i = 0; i < group_size; ++i)
          for (std::uint64_t row = first; row < last; ++row) {
            const unsigned shift = kShift[row % 8];
            const float code = static_cast<float>(words[i * (to - from) + word - from] >> shift & 15),
                        zero = static_cast<float>(zeros[word - from] >> shift & 15);
            values[(row - begin) * in + group * group_size + i] = (code - zero) * scales[row - begin];
          }
      }
    }
  }

  std::uint64_t groups_;
  PackedBytes codes_, zeros_, scales_;
};

void read_module(PackedTensors& tensors, const JsonFields& fields, const std::string& module) {
  const TensorPtr codes = tensors.find(module + ".qweight");
  const auto& shape = codes->info().shape;
  if (codes->dtype() != DType::i32 || shape.size() != 2 || shape[0] == 0)
    fail_packed(*codes, "is " + std::string(info(codes->dtype()).name) + " " + shape_text(shape) +
                            ", expected i32 of two axes");
  const std::uint64_t in = shape[0], out = shape[1] * 8;
  const TensorPtr scales = tensors.take(module + ".scales", {DType::f16, DType::bf16, DType::f32}, *codes);
  const auto& groups = scales->info().shape;
  if (groups.size() != 2 || groups[1] != out || groups[0] == 0 || in % groups[0] != 0)
    fail_packed(*scales, "has shape " + shape_text(groups) + ", expected [groups that share " + std::to_string(in) +
                             " inputs evenly, " + std::to_string(out) + "]");
  for (const char* key : {"group_size", "q_group_size"})
    if (const auto said = groups_said(fields, key, in); said && *said != groups[0])
      fail_packed(*scales, "has " + std::to_string(groups[0]) + " groups of " + std::to_string(in) + " inputs, and " +
                               key + " of quantization_config makes " + std::to_string(*said));
  const PackedBytes zeros(tensors.take(module + ".qzeros", {DType::i32}, *codes, {groups[0], shape[1]}));
  tensors.replace(codes->name(),
                  std::make_shared<AwqTensor>(TensorInfo{module + ".weight", {out, in}, scales->dtype()}, groups[0],
                                              PackedBytes(codes), zeros, PackedBytes(scales)));
}

}  // namespace

Quantization read_awq(PackedTensors& tensors, const Method& method) {
  const JsonFields fields = method.fields();
  for (const char* key : {"bits", "w_bit"})
    if (fields.optional_integer(key, 1, 8).value_or(4) != 4)
      fields.fail(ErrorKind::unsupported, key, "AWQ of other than 4 bits", "use the unquantized checkpoint");
  if (!fields.boolean("zero_point", true))
    fields.fail(ErrorKind::unsupported, "zero_point", "'zero_point' is false, and AWQ's gemm has zero points",
                "use the unquantized checkpoint");
  const std::string version = fields.optional_string("version").value_or("gemm");
  if (version != "gemm" && version != "GEMM")
    fields.fail(ErrorKind::unsupported, "version", "AWQ version is '" + version + "', read is gemm",
                "save it again in version gemm, or use the unquantized checkpoint");
  Quantization found;
  for (const std::string& module : tensors.ending_in(".qweight")) {
    read_module(tensors, fields, module);
    ++found.weights;
  }
  found.method = "AWQ, 4 bits";
  return found;
}

}  // namespace ropewalk::formats::quantized
