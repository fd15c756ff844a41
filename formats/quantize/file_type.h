#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "lib/dtype.h"

namespace ropewalk::formats {

/// What people mean by "Q4_K_M": llama.cpp 0.5's llama_ftype, with its values (general.file_type of a GGUF).
enum class FileType : std::uint8_t {
  f32 = 0,
  f16 = 1,
  q4_0 = 2,
  q4_1 = 3,
  q8_0 = 7,
  q5_0 = 8,
  q5_1 = 9,
  q2_k = 10,
  q3_k_s = 11,
  q3_k_m = 12,
  q3_k_l = 13,
  q4_k_s = 14,
  q4_k_m = 15,
  q5_k_s = 16,
  q5_k_m = 17,
  q6_k = 18,
  iq2_xxs = 19,
  iq2_xs = 20,
  q2_k_s = 21,
  iq3_xs = 22,
  iq3_xxs = 23,
  iq1_s = 24,
  iq4_nl = 25,
  iq3_s = 26,
  iq3_m = 27,
  iq2_s = 28,
  iq2_m = 29,
  iq4_xs = 30,
  iq1_m = 31,
  bf16 = 32,
  tq1_0 = 36,
  tq2_0 = 37,
  mxfp4_moe = 38,
  q1_0 = 40,
  q2_0 = 41,
};

/// One row of the types that llama-quantize 0.5 offers.
struct FileTypeInfo {
  FileType type;
  std::string_view name;  // as llama-quantize spells it
  DType base;             // of the tensors that no rule of the mix names
  std::string_view what;  // one line of help
};

/// In the order of llama-quantize's help; "Q3_K", "Q4_K" and "Q5_K" are other names of the _M mixes.
inline constexpr std::array kFileTypes = {
    FileTypeInfo{FileType::q1_0, "Q1_0", DType::q1_0, "1.125 bits a weight"},
    FileTypeInfo{FileType::q2_0, "Q2_0", DType::q2_0, "2.25 bits a weight, groups of 64"},
    FileTypeInfo{FileType::q4_0, "Q4_0", DType::q4_0, "4.5 bits a weight, legacy"},
    FileTypeInfo{FileType::q4_1, "Q4_1", DType::q4_1, "5 bits a weight, legacy"},
    FileTypeInfo{FileType::mxfp4_moe, "MXFP4_MOE", DType::mxfp4, "experts in MXFP4, the rest in Q8_0"},
    FileTypeInfo{FileType::q5_0, "Q5_0", DType::q5_0, "5.5 bits a weight, legacy"},
    FileTypeInfo{FileType::q5_1, "Q5_1", DType::q5_1, "6 bits a weight, legacy"},
    FileTypeInfo{FileType::iq2_xxs, "IQ2_XXS", DType::iq2_xxs, "2.06 bits a weight; wants an importance matrix"},
    FileTypeInfo{FileType::iq2_xs, "IQ2_XS", DType::iq2_xs, "2.31 bits a weight; wants an importance matrix"},
    FileTypeInfo{FileType::iq2_s, "IQ2_S", DType::iq2_xs, "2.5 bits a weight; wants an importance matrix"},
    FileTypeInfo{FileType::iq2_m, "IQ2_M", DType::iq2_s, "2.7 bits a weight; wants an importance matrix"},
    FileTypeInfo{FileType::iq1_s, "IQ1_S", DType::iq1_s, "1.56 bits a weight; wants an importance matrix"},
    FileTypeInfo{FileType::iq1_m, "IQ1_M", DType::iq1_m, "1.75 bits a weight; wants an importance matrix"},
    FileTypeInfo{FileType::tq1_0, "TQ1_0", DType::tq1_0, "1.69 bits a weight, ternary"},
    FileTypeInfo{FileType::tq2_0, "TQ2_0", DType::tq2_0, "2.06 bits a weight, ternary"},
    FileTypeInfo{FileType::q2_k, "Q2_K", DType::q2_k, "mix around 2.6 bits a weight"},
    FileTypeInfo{FileType::q2_k_s, "Q2_K_S", DType::q2_k, "smaller Q2_K; wants an importance matrix"},
    FileTypeInfo{FileType::iq3_xxs, "IQ3_XXS", DType::iq3_xxs, "3.06 bits a weight; wants an importance matrix"},
    FileTypeInfo{FileType::iq3_s, "IQ3_S", DType::iq3_s, "3.44 bits a weight"},
    FileTypeInfo{FileType::iq3_m, "IQ3_M", DType::iq3_s, "mix around 3.66 bits a weight"},
    FileTypeInfo{FileType::q3_k_m, "Q3_K", DType::q3_k, "Q3_K_M"},
    FileTypeInfo{FileType::iq3_xs, "IQ3_XS", DType::iq3_s, "3.3 bits a weight; wants an importance matrix"},
    FileTypeInfo{FileType::q3_k_s, "Q3_K_S", DType::q3_k, "3.4 bits a weight"},
    FileTypeInfo{FileType::q3_k_m, "Q3_K_M", DType::q3_k, "mix around 3.9 bits a weight"},
    FileTypeInfo{FileType::q3_k_l, "Q3_K_L", DType::q3_k, "mix around 4.3 bits a weight"},
    FileTypeInfo{FileType::iq4_nl, "IQ4_NL", DType::iq4_nl, "4.5 bits a weight, non-linear"},
    FileTypeInfo{FileType::iq4_xs, "IQ4_XS", DType::iq4_xs, "4.25 bits a weight, non-linear"},
    FileTypeInfo{FileType::q4_k_m, "Q4_K", DType::q4_k, "Q4_K_M"},
    FileTypeInfo{FileType::q4_k_s, "Q4_K_S", DType::q4_k, "4.6 bits a weight"},
    FileTypeInfo{FileType::q4_k_m, "Q4_K_M", DType::q4_k, "mix around 4.9 bits a weight"},
    FileTypeInfo{FileType::q5_k_m, "Q5_K", DType::q5_k, "Q5_K_M"},
    FileTypeInfo{FileType::q5_k_s, "Q5_K_S", DType::q5_k, "5.6 bits a weight"},
    FileTypeInfo{FileType::q5_k_m, "Q5_K_M", DType::q5_k, "mix around 5.7 bits a weight"},
    FileTypeInfo{FileType::q6_k, "Q6_K", DType::q6_k, "6.6 bits a weight"},
    FileTypeInfo{FileType::q8_0, "Q8_0", DType::q8_0, "8.5 bits a weight"},
    FileTypeInfo{FileType::f16, "F16", DType::f16, "16 bits a weight"},
    FileTypeInfo{FileType::bf16, "BF16", DType::bf16, "16 bits a weight, the range of F32"},
    FileTypeInfo{FileType::f32, "F32", DType::f32, "32 bits a weight"},
};

/// The row of that type under its own name ("Q4_K_M", not "Q4_K").
const FileTypeInfo& info(FileType type);
/// The row that llama-quantize takes for that word: by name in any case, else the first of that number; nullptr if it
/// names none.
const FileTypeInfo* find_file_type(std::string_view word);
/// Its type; nullopt if it names none.
std::optional<FileType> file_type_from_name(std::string_view name);

}  // namespace ropewalk::formats
