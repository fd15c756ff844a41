#include "verify/device_weights.h"

#include <algorithm>
#include <cstring>

#include "lib/convert.h"
#include "verify/packed_matrix.h"

namespace ropewalk::verify {
namespace {

constexpr std::uint64_t kAlignment = 256;  // of what a slot holds
std::uint64_t aligned(std::uint64_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

/// bf16 terms that hold every value of `dtype` exactly: 1 for bf16, 2 for f16 (11 significant bits), 3 for others.
constexpr int exact_bf16_terms(DType dtype) { return dtype == DType::bf16 ? 1 : dtype == DType::f16 ? 2 : 3; }

DeviceWeight matrix_of(std::initializer_list<std::pair<TensorPtr, std::size_t>> parts, std::size_t depth,
                       ElementType type) {
  DeviceWeight out;
  out.depth = depth;
  for (const auto& [tensor, outputs] : parts) {
    require_shape(*tensor, {outputs, depth});
    out.parts.push_back({tensor, out.outputs, outputs});
    out.outputs += outputs;
    if (type == ElementType::f32)
      out.terms =
          std::max(out.terms, static_cast<std::size_t>(tensor->has_raw() ? exact_bf16_terms(tensor->dtype()) : 3));
  }
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
    weights.bytes = aligned(weights.bytes + matrix.terms * matrix.outputs * matrix.depth * sizeof(std::uint16_t));
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
  const auto d_model = std::size_t(c.d_model), d_ff = std::size_t(c.d_ff),
             d_q = std::size_t(c.n_heads) * std::size_t(c.head_dim),
             d_kv = std::size_t(c.n_kv_heads) * std::size_t(c.head_dim);
  std::vector<DeviceWeights> out;
  for (int layer = 0; layer < c.n_layers; ++layer) {
    const std::string prefix = "model.layers." + std::to_string(layer) + ".", attention = prefix + "self_attn.",
                      mlp = prefix + "mlp.";
    const auto weight = [&](const std::string& module) { return required(model, module + ".weight"); };
    const auto bias = [&](const std::string& module) { return model.find(module + ".bias"); };
    DeviceWeights& w = out.emplace_back();
    w.matrices = {matrix_of({{weight(attention + "q_proj"), d_q},
                             {weight(attention + "k_proj"), d_kv},
                             {weight(attention + "v_proj"), d_kv}},
                            d_model, type),
                  matrix_of({{weight(attention + "o_proj"), d_model}}, d_q, type),
                  matrix_of({{weight(mlp + "gate_proj"), d_ff}, {weight(mlp + "up_proj"), d_ff}}, d_model, type),
                  matrix_of({{weight(mlp + "down_proj"), d_model}}, d_ff, type)};
    w.vectors = {vector_of({{weight(prefix + "input_layernorm"), d_model}}),
                 vector_of({{weight(prefix + "post_attention_layernorm"), d_model}}),
                 vector_of({{bias(attention + "q_proj"), d_q},
                            {bias(attention + "k_proj"), d_kv},
                            {bias(attention + "v_proj"), d_kv}}),
                 vector_of({{bias(attention + "o_proj"), d_model}}),
                 vector_of({{bias(mlp + "gate_proj"), d_ff}, {bias(mlp + "up_proj"), d_ff}}),
                 vector_of({{bias(mlp + "down_proj"), d_model}})};
    lay_out(w);
  }
  DeviceWeights& head = out.emplace_back();
  head.matrices = {matrix_of(
      {{required(model, c.tied_head ? "model.embed_tokens.weight" : "lm_head.weight"), std::size_t(c.n_vocab)}},
      d_model, type)};
  head.vectors = {vector_of({{required(model, "model.norm.weight"), d_model}})};
  lay_out(head);
  return out;
}

ElementType natural_type(const Checkpoint& model) {
  for (const TensorPtr& tensor : model.tensors)
    if (tensor->info().shape.size() == 2 && tensor->dtype() != DType::f16 && !is_block_type(tensor->dtype()))
      return ElementType::bf16;
  return ElementType::f16;
}

WeightPieces cut_weights(const std::vector<DeviceWeights>& plan, const Accelerator& device, std::uint64_t piece_bytes) {
  WeightPieces out;
  const auto add = [&](const WeightPiece& piece, std::function<void(std::span<std::byte>)> fill) {
    out.of.back().push_back(piece);
    out.stream.push_back({piece.bytes, std::move(fill)});
    out.largest_bytes = std::max(out.largest_bytes, piece.bytes);
    out.largest_elements = std::max<std::uint64_t>(out.largest_elements, piece.elements);
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
          const RowRange rows{row, std::min<std::uint64_t>(row + step, part.outputs)};
          const std::size_t depth = weights.matrices[m].depth;
          add({.matrix = m,
               .dtype = raw ? tensor.dtype() : DType::f32,
               .bytes = rows.size() * row_bytes,
               .first_element = (part.first_output + row) * depth,
               .elements = rows.size() * depth,
               .done = rows.end == part.outputs ? part.tensor : nullptr},
              [&tensor, rows, raw](std::span<std::byte> bytes) { fill_rows(tensor, rows, raw, bytes); });
        }
      }
  }
  return out;
}

}  // namespace ropewalk::verify
