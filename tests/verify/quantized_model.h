#pragma once

#include <algorithm>
#include <initializer_list>
#include <span>
#include <utility>
#include <vector>

#include "lib/codecs/encode.h"
#include "tests/verify/random_model.h"

namespace ropewalk::verify {

/// Rows of whole blocks of every type.
inline ModelConfig superblock_config(int layers) {
  ModelConfig c = awkward_config();
  c.n_layers = layers, c.d_model = 256, c.n_heads = 4, c.n_kv_heads = 2, c.head_dim = 64, c.d_ff = 256, c.n_vocab = 97;
  c.rope.rotary_dim = 64;
  c.attention_bias = c.mlp_bias = false;
  return c;
}

/// Raw as a file has it, encoded by us, all columns of one importance.
inline TensorPtr quantized(const LazyTensor& tensor, DType type) {
  TensorInfo info = tensor.info();
  std::vector<float> values(info.elements());
  tensor.read_f32({0, info.rows()}, values);
  info.dtype = type;
  std::vector<std::byte> bytes(info.bytes());
  const std::vector<float> ones(importances_of(type) == Importances::required ? std::size_t(info.columns()) : 0, 1.0f);
  encode_blocks(type, values, info.columns(), ones, bytes);
  return memory_tensor(info, std::move(bytes));
}
/// The model's matrices in turn in `types`; vectors stay f32.
inline Checkpoint quantized_model(Checkpoint model, std::span<const DType> types) {
  std::size_t next = 0;
  for (TensorPtr& tensor : model.tensors)
    if (tensor->info().shape.size() == 2) tensor = quantized(*tensor, types[next++ % types.size()]);
  return model;
}

/// The block types a file can hold, but for those that `without` has.
inline std::vector<DType> block_types_without(std::initializer_list<DType> without = {}) {
  std::vector<DType> out;
  for (const DTypeInfo& type : kDTypes)
    if (has_block_encoder(type.dtype) && std::ranges::find(without, type.dtype) == without.end())
      out.push_back(type.dtype);
  return out;
}

}  // namespace ropewalk::verify
