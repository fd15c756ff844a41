#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

namespace ropewalk {

/// Every element or block encoding a tensor can be stored in.
enum class DType : std::uint8_t {
  f64,
  f32,
  f16,
  bf16,
  f8_e4m3,
  f8_e5m2,
  i64,
  i32,
  i16,
  i8,
  u64,
  u32,
  u16,
  u8,
  boolean,
  // ggml block types (ggml 0.25.3); q8_1 and q8_k stand in no file and have only sizes
  q4_0,
  q4_1,
  q5_0,
  q5_1,
  q8_0,
  q8_1,
  q2_k,
  q3_k,
  q4_k,
  q5_k,
  q6_k,
  q8_k,
  iq2_xxs,
  iq2_xs,
  iq3_xxs,
  iq1_s,
  iq4_nl,
  iq3_s,
  iq2_s,
  iq4_xs,
  iq1_m,
  tq1_0,
  tq2_0,
  mxfp4,
  nvfp4,
  q1_0,
  q2_0,
};

/// One row of the only table of encodings. A block is the smallest group that can be encoded alone.
struct DTypeInfo {
  DType dtype;
  std::string_view name;         // ours, as printed and accepted: "f16", "q8_0", "q4_k"
  std::string_view safetensors;  // "F16", empty if safetensors cannot hold it
  std::string_view torch;        // "float16" (config.json's dtype), empty if none
  int ggml_type;                 // id in a GGUF, -1 if none
  int block_elements;            // 1 for plain types
  int block_bytes;
};

inline constexpr std::array kDTypes = {
    DTypeInfo{DType::f64, "f64", "F64", "float64", 28, 1, 8},
    DTypeInfo{DType::f32, "f32", "F32", "float32", 0, 1, 4},
    DTypeInfo{DType::f16, "f16", "F16", "float16", 1, 1, 2},
    DTypeInfo{DType::bf16, "bf16", "BF16", "bfloat16", 30, 1, 2},
    DTypeInfo{DType::f8_e4m3, "f8_e4m3", "F8_E4M3", "float8_e4m3fn", -1, 1, 1},
    DTypeInfo{DType::f8_e5m2, "f8_e5m2", "F8_E5M2", "float8_e5m2", -1, 1, 1},
    DTypeInfo{DType::i64, "i64", "I64", "int64", 27, 1, 8},
    DTypeInfo{DType::i32, "i32", "I32", "int32", 26, 1, 4},
    DTypeInfo{DType::i16, "i16", "I16", "int16", 25, 1, 2},
    DTypeInfo{DType::i8, "i8", "I8", "int8", 24, 1, 1},
    DTypeInfo{DType::u64, "u64", "U64", "uint64", -1, 1, 8},
    DTypeInfo{DType::u32, "u32", "U32", "uint32", -1, 1, 4},
    DTypeInfo{DType::u16, "u16", "U16", "uint16", -1, 1, 2},
    DTypeInfo{DType::u8, "u8", "U8", "uint8", -1, 1, 1},
    DTypeInfo{DType::boolean, "bool", "BOOL", "bool", -1, 1, 1},
    DTypeInfo{DType::q4_0, "q4_0", "", "", 2, 32, 18},
    DTypeInfo{DType::q4_1, "q4_1", "", "", 3, 32, 20},
    DTypeInfo{DType::q5_0, "q5_0", "", "", 6, 32, 22},
    DTypeInfo{DType::q5_1, "q5_1", "", "", 7, 32, 24},
    DTypeInfo{DType::q8_0, "q8_0", "", "", 8, 32, 34},
    DTypeInfo{DType::q8_1, "q8_1", "", "", 9, 32, 36},
    DTypeInfo{DType::q2_k, "q2_k", "", "", 10, 256, 84},
    DTypeInfo{DType::q3_k, "q3_k", "", "", 11, 256, 110},
    DTypeInfo{DType::q4_k, "q4_k", "", "", 12, 256, 144},
    DTypeInfo{DType::q5_k, "q5_k", "", "", 13, 256, 176},
    DTypeInfo{DType::q6_k, "q6_k", "", "", 14, 256, 210},
    DTypeInfo{DType::q8_k, "q8_k", "", "", 15, 256, 292},
    DTypeInfo{DType::iq2_xxs, "iq2_xxs", "", "", 16, 256, 66},
    DTypeInfo{DType::iq2_xs, "iq2_xs", "", "", 17, 256, 74},
    DTypeInfo{DType::iq3_xxs, "iq3_xxs", "", "", 18, 256, 98},
    DTypeInfo{DType::iq1_s, "iq1_s", "", "", 19, 256, 50},
    DTypeInfo{DType::iq4_nl, "iq4_nl", "", "", 20, 32, 18},
    DTypeInfo{DType::iq3_s, "iq3_s", "", "", 21, 256, 110},
    DTypeInfo{DType::iq2_s, "iq2_s", "", "", 22, 256, 82},
    DTypeInfo{DType::iq4_xs, "iq4_xs", "", "", 23, 256, 136},
    DTypeInfo{DType::iq1_m, "iq1_m", "", "", 29, 256, 56},
    DTypeInfo{DType::tq1_0, "tq1_0", "", "", 34, 256, 54},
    DTypeInfo{DType::tq2_0, "tq2_0", "", "", 35, 256, 66},
    DTypeInfo{DType::mxfp4, "mxfp4", "", "", 39, 32, 17},
    DTypeInfo{DType::nvfp4, "nvfp4", "", "", 40, 64, 36},
    DTypeInfo{DType::q1_0, "q1_0", "", "", 41, 128, 18},
    DTypeInfo{DType::q2_0, "q2_0", "", "", 42, 64, 18},
};

/// The table's row for `dtype`.
constexpr const DTypeInfo& info(DType dtype) { return kDTypes[static_cast<std::size_t>(dtype)]; }
static_assert([] {
  for (std::size_t i = 0; i < kDTypes.size(); ++i)
    if (static_cast<std::size_t>(kDTypes[i].dtype) != i) return false;
  return true;
}());

/// By any spelling in use: "f16", "F16", "fp16", "float16", "half", "bfloat16", "Q8_0"; nullopt if unknown.
std::optional<DType> dtype_from_name(std::string_view name);
std::optional<DType> dtype_from_safetensors(std::string_view name);
std::optional<DType> dtype_from_ggml(std::uint32_t type);

constexpr bool is_block_type(DType dtype) { return info(dtype).block_elements > 1; }
/// f64, f32, f16, bf16, f8: types that arithmetic can be done on after widening.
constexpr bool is_float(DType dtype) { return static_cast<int>(dtype) <= static_cast<int>(DType::f8_e5m2); }

/// Bytes of `elements` consecutive elements; nullopt if not a whole number of blocks or if the product does not fit in
/// 64 bits.
std::optional<std::uint64_t> byte_size(DType dtype, std::uint64_t elements);

/// Product of dims, or nullopt if it does not fit in 64 bits. No dims: 1, a scalar.
std::optional<std::uint64_t> element_count(std::span<const std::uint64_t> dims);

}  // namespace ropewalk
