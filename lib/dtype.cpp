#include "lib/dtype.h"

#include <string>

#include "lib/ascii_case.h"

namespace ropewalk {

std::optional<DType> dtype_from_name(std::string_view name) {
  const std::string lower = lower_case(std::string(name));
  if (lower == "fp16" || lower == "half") return DType::f16;
  if (lower == "fp32" || lower == "float") return DType::f32;
  if (lower == "fp64" || lower == "double") return DType::f64;
  if (lower == "bfp16") return DType::bf16;
  for (const DTypeInfo& row : kDTypes)
    if (lower == row.name || (!row.torch.empty() && lower == row.torch)) return row.dtype;
  return std::nullopt;
}

std::optional<DType> dtype_from_safetensors(std::string_view name) {
  for (const DTypeInfo& row : kDTypes)
    if (!row.safetensors.empty() && name == row.safetensors) return row.dtype;
  return std::nullopt;
}

std::optional<DType> dtype_from_ggml(std::uint32_t type) {
  for (const DTypeInfo& row : kDTypes)
    if (row.ggml_type >= 0 && static_cast<std::uint32_t>(row.ggml_type) == type) return row.dtype;
  return std::nullopt;
}

std::optional<std::uint64_t> byte_size(DType dtype, std::uint64_t elements) {
  const DTypeInfo& row = info(dtype);
  if (elements % static_cast<std::uint64_t>(row.block_elements) != 0) return std::nullopt;
  std::uint64_t bytes = 0;
  if (__builtin_mul_overflow(elements / static_cast<std::uint64_t>(row.block_elements),
                             static_cast<std::uint64_t>(row.block_bytes), &bytes))
    return std::nullopt;
  return bytes;
}

std::optional<std::uint64_t> element_count(std::span<const std::uint64_t> dims) {
  std::uint64_t n = 1;
  for (std::uint64_t d : dims)
    if (__builtin_mul_overflow(n, d, &n)) return std::nullopt;
  return n;
}

}  // namespace ropewalk
