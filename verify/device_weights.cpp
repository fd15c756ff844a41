#include "verify/device_weights.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>

#include "lib/codecs/decode.h"
#include "lib/convert.h"
#include "verify/model_weights.h"
#include "verify/packed_matrix.h"

namespace ropewalk::verify {
namespace {

constexpr std::uint64_t kAlignment = 256;  // of what a slot holds
std::uint64_t aligned(std::uint64_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

using Modules = std::initializer_list<std::reference_wrapper<const LinearTensors>>;

/// Rows of tensors that count: all, or those of a tile of the head.
struct Rows {
  std::size_t first = 0, count = SIZE_MAX;

  std::size_t of(std::size_t outputs) const { return std::min(count, outputs - first); }
};

void add_part(DeviceWeight& matrix, const TensorPtr& tensor, std::size_t outputs, Rows rows = {}) {
  require_shape(*tensor, {outputs, matrix.depth});
  matrix.parts.push_back({tensor, matrix.outputs, rows.of(outputs), rows.first});
  matrix.outputs += rows.of(outputs);
}

DeviceWeight matrix_of(Modules modules, ElementType type, Rows rows) {
  DeviceWeight out;
  out.depth = modules.begin()->get().inputs;
  for (const LinearTensors& module : modules) {
    add_part(out, module.weight, module.outputs, rows);
    const bool raw = module.weight->has_raw();
    if (type == ElementType::f32)
      out.terms = std::max(out.terms, static_cast<std::size_t>(raw ? exact_bf16_terms(module.weight->dtype()) : 3));
  }
  return out;
}

/// The factors of `modules`, which are matrix `index`, behind the matrices there are.
void add_deltas(DeviceWeights& weights, std::size_t index, Modules modules, ElementType type, Rows rows) {
  DeviceWeight a;
  a.depth = modules.begin()->get().inputs, a.terms = delta_terms(type);
  std::vector<DeviceWeight> all;
  std::vector<DeviceWeight::Delta> deltas;
  std::size_t first_output = 0;
  for (const LinearTensors& module : modules) {
    if (module.a) {
      DeviceWeight b;
      b.depth = module.rank(), b.terms = a.terms;
      add_part(b, module.b, module.outputs, rows);
      deltas.push_back({weights.matrices.size() + 1 + all.size(), first_output, a.outputs});
      add_part(a, module.a, module.rank());
      all.push_back(std::move(b));
    }
    first_output += rows.of(module.outputs);
  }
  if (all.empty()) return;
  weights.matrices[index].a = weights.matrices.size();
  weights.matrices[index].deltas = std::move(deltas);
  weights.matrices.push_back(std::move(a));
  std::ranges::move(all, std::back_inserter(weights.matrices));
}

DeviceWeights with_matrices(std::initializer_list<Modules> matrices, ElementType type, Rows rows = {}) {
  DeviceWeights out;
  for (const Modules& modules : matrices) out.matrices.push_back(matrix_of(modules, type, rows));
  std::size_t index = 0;
  for (const Modules& modules : matrices) add_deltas(out, index++, modules, type, rows);
  return out;
}

/// Empty if none of the parts exists.
DeviceVector vector_of(std::initializer_list<std::pair<TensorPtr, std::size_t>> parts) {
  DeviceVector out;
  if (std::ranges::none_of(parts, [](const auto& part) { return part.first != nullptr; })) return out;
  for (const auto& [tensor, size] : parts) {
    out.parts.push_back({tensor, size});
    out.size += size;
  }
  return out;
}

void lay_out(DeviceWeights& weights) {
  for (DeviceVector& vector : weights.vectors) {
    vector.offset_bytes = weights.bytes;
    weights.bytes = aligned(weights.bytes + vector.size * sizeof(float));
  }
  weights.vector_bytes = weights.bytes;
  for (DeviceWeight& matrix : weights.matrices) {
    matrix.offset_bytes = weights.bytes;
    weights.bytes = aligned(weights.bytes + matrix.terms * matrix.term_stride() * sizeof(std::uint16_t));
  }
}

/// Whether an exponent is all ones. Bytes as stored, elements side by side.
template <class Bits>
bool any_special(std::span<const std::byte> bytes, Bits exponent) {
  bool any = false;
  for (std::size_t at = 0; at + sizeof(Bits) <= bytes.size(); at += sizeof(Bits)) {
    Bits bits;
    std::memcpy(&bits, bytes.data() + at, sizeof bits);
    any |= (bits & exponent) == exponent;
  }
  return any;
}

void require_finite_bytes(const LazyTensor& tensor, RowRange rows, std::span<const std::byte> bytes) {
  if (tensor.dtype() == DType::bf16 && !any_special<std::uint16_t>(bytes, 0x7f80)) return;
  if (tensor.dtype() == DType::f16 && !any_special<std::uint16_t>(bytes, 0x7c00)) return;
  if (tensor.dtype() == DType::f32 && !any_special<std::uint32_t>(bytes, 0x7f800000)) return;
  // of blocks, their scales bound the values; false of a NaN
  if (is_block_type(tensor.dtype()) &&
      largest_magnitude(tensor.dtype(), bytes) <= double(std::numeric_limits<float>::max()))
    return;
  std::vector<float> values(rows.size() * tensor.info().columns());
  decode_f32(tensor.dtype(), bytes, values);
  require_finite(tensor, rows.begin, values);
}

void fill_rows(const LazyTensor& tensor, RowRange rows, bool raw, std::span<std::byte> bytes) {
  tensor.prepare();
  if (raw) {
    tensor.read_raw(rows, bytes);
    require_finite_bytes(tensor, rows, bytes);
    return;
  }
  std::vector<float> values(bytes.size() / sizeof(float));
  tensor.read_f32(rows, values);
  require_finite(tensor, rows.begin, values);
  std::memcpy(bytes.data(), values.data(), bytes.size());
}

void fill_vectors(const DeviceWeights& weights, std::span<std::byte> bytes) {
  std::ranges::fill(bytes, std::byte{0});
  for (const DeviceVector& vector : weights.vectors) {
    std::uint64_t at = vector.offset_bytes;
    for (const auto& [tensor, size] : vector.parts) {
      if (tensor) std::memcpy(bytes.data() + at, read_vector(tensor, size).data(), size * sizeof(float));
      at += size * sizeof(float);
    }
  }
}

}  // namespace

std::vector<DeviceWeights> plan_device_weights(const Checkpoint& model, ElementType type) {
  const ModelConfig& c = model.config;
  const auto d_model = std::size_t(c.d_model);
  std::vector<DeviceWeights> out;
  for (int layer = 0; layer < c.n_layers; ++layer) {
    const LayerTensors t = layer_tensors(model, layer);
    DeviceWeights& w = out.emplace_back(with_matrices({{t.q, t.k, t.v}, {t.o}, {t.gate, t.up}, {t.down}}, type));
    w.vectors = {vector_of({{t.attention_norm, d_model}}),
                 vector_of({{t.mlp_norm, d_model}}),
                 vector_of({{t.q.bias, t.q.outputs}, {t.k.bias, t.k.outputs}, {t.v.bias, t.v.outputs}}),
                 vector_of({{t.o.bias, t.o.outputs}}),
                 vector_of({{t.gate.bias, t.gate.outputs}, {t.up.bias, t.up.outputs}}),
                 vector_of({{t.down.bias, t.down.outputs}})};
    lay_out(w);
  }
  const LinearTensors logits = head_tensors(model);
  for (std::size_t first = 0; first < std::size_t(c.n_vocab); first += kHeadTile) {
    DeviceWeights& tile = out.emplace_back(with_matrices({{logits}}, type, {first, kHeadTile}));
    tile.vectors = {vector_of({{required(model, "model.norm.weight"), d_model}})};
    lay_out(tile);
  }
  return out;
}

int exact_bf16_terms(DType dtype) noexcept {
  switch (dtype) {
    case DType::bf16:
    case DType::mxfp4:  // 2 bits times a power of two from 2^-128 on
    case DType::nvfp4:  // 2 bits times a scale of 4
      return 1;
    case DType::f16:
    case DType::q1_0:
    case DType::q2_0:
    case DType::tq1_0:
    case DType::tq2_0:  // +-1, 2 or 0 times an f16
    case DType::q4_0:
    case DType::q5_0:  // 3 and 4 bits, or a power of two, times an f16
      return 2;
    default: return 3;
  }
}

std::size_t DeviceWeights::largest_rank() const {
  std::size_t rank = 0;
  for (const DeviceWeight& matrix : matrices)
    if (!matrix.deltas.empty()) rank = std::max(rank, matrices[matrix.a].outputs);
  return rank;
}

ElementType natural_type(const Checkpoint& model) {
  bool halves = false;
  for (const TensorPtr& tensor : model.tensors) {
    const DType dtype = tensor->dtype();
    if (tensor->info().shape.size() != 2 || dtype == DType::nvfp4) continue;
    if (dtype != DType::f16 && !has_f16_scales(dtype)) return ElementType::bf16;
    halves = true;
  }
  return halves ? ElementType::f16 : ElementType::bf16;
}

WeightRounding WeightPieces::rounding() const {
  RoundingSums all;
  for (const RoundingSums& one : *sums) all.add(one);
  return {all.largest, all.squares > 0 ? std::sqrt(all.error_squares / all.squares) : 0};
}

WeightPieces cut_weights(const std::vector<DeviceWeights>& plan, ElementType type, const Accelerator& device,
                         std::uint64_t piece_bytes, bool measure) {
  WeightPieces out;
  out.sums = std::make_shared<std::vector<RoundingSums>>();
  const std::optional<DType> rounded = measure ? rounded_to(type) : std::nullopt;
  const auto add = [&](const WeightPiece& piece, std::function<void(std::span<std::byte>)> fill) {
    out.of.back().push_back(piece);
    out.stream.push_back({piece.bytes, std::move(fill)});
    out.largest_bytes = std::max(out.largest_bytes, piece.bytes);
    out.total_bytes += piece.bytes;
  };
  for (const DeviceWeights& weights : plan) {
    out.of.emplace_back();
    add({.matrix = {}, .bytes = weights.vector_bytes},
        [&weights](std::span<std::byte> bytes) { fill_vectors(weights, bytes); });
    for (std::size_t m = 0; m < weights.matrices.size(); ++m)
      for (const DeviceWeight::Part& part : weights.matrices[m].parts) {
        const LazyTensor& tensor = *part.tensor;
        const bool raw = tensor.has_raw() && device.can_decode(tensor.dtype());
        const std::uint64_t row_bytes = raw ? tensor.info().row_bytes() : tensor.info().columns() * sizeof(float),
                            unit = tensor.row_unit();
        const std::uint64_t step = std::max<std::uint64_t>(1, piece_bytes / (row_bytes * unit)) * unit;
        for (std::uint64_t row = 0; row < part.outputs; row += step) {
          const RowRange rows{part.first_row + row, part.first_row + std::min<std::uint64_t>(row + step, part.outputs)};
          const std::size_t depth = weights.matrices[m].depth;
          add({.matrix = m,
               .dtype = raw ? tensor.dtype() : DType::f32,
               .bytes = rows.size() * row_bytes,
               .first_element = (part.first_output + row) * depth,
               .elements = rows.size() * depth,
               .done = rows.end == tensor.info().rows() ? part.tensor : nullptr},
              [&tensor, rows, raw, measured = weights.matrices[m].terms == 1 ? rounded : std::nullopt, sums = out.sums,
               index = out.stream.size()](std::span<std::byte> bytes) {
                fill_rows(tensor, rows, raw, bytes);
                if (measured) (*sums)[index] = measure_rounding(raw ? tensor.dtype() : DType::f32, bytes, *measured);
              });
        }
      }
  }
  out.sums->resize(out.stream.size());
  return out;
}

}  // namespace ropewalk::verify
