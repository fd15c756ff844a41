#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <regex>
#include <string>
#include <vector>

#include "formats/gguf.h"
#include "formats/quantize/file_type.h"

namespace ropewalk::formats {

// Which encoding each tensor of a GGUF gets under a file type: the mix. Rules are those of one llama.cpp release, and
// change between releases (0.5 treats attn_qkv as attn_v, 2025-02 did not): a mix is named with its version.

/// The release whose rules these are, as --mix spells it.
inline constexpr const char* kMixVersion = "llama.cpp@0.5";

/// What the rules ask of the model. Error(bad_input) if a key is of another kind than llama.cpp 0.5 reads.
struct MixModel {
  std::string architecture;
  int n_layers = 0;
  int n_heads = 0, n_kv_heads = 0;  // of layer 0; equal if head_count_kv is absent
  int n_experts = 0;
};
MixModel mix_model(const GgufFile& file);

/// One tensor in the order in which llama-quantize takes them: counters run over that order.
struct MixTensor {
  std::string name;                  // GGUF name
  std::vector<std::uint64_t> shape;  // outermost first
  DType dtype;                       // as it is stored
};

/// --tensor-type PATTERN=TYPE: tensors in whose names the pattern (ECMAScript, lower case) is found.
struct TensorTypeRule {
  std::regex pattern;
  DType dtype;
  std::string text = {};  // as it was given, for messages
};

struct MixOptions {
  FileType type = FileType::q4_k_m;
  bool pure = false;                  // --pure: every tensor in the type's base encoding
  bool leave_output = false;          // --leave-output-tensor
  std::optional<DType> output;        // --output-tensor-type
  std::optional<DType> embedding;     // --token-embedding-type
  std::vector<TensorTypeRule> rules;  // --tensor-type, the first that matches counts
  bool importance = false;            // an importance matrix is at hand
  // types chosen otherwise (auto_types.h): of these tensors, whatever options and rules say
  std::map<std::string, DType> exact = {};
};

struct MixedTensor {
  DType dtype;                    // what is written; the stored one where quantizing does not touch the tensor
  DType wanted;                   // what the mix asked for: another one where the row's length does not allow that
  bool needs_importance = false;  // llama-quantize refuses it without (IQ1_*, IQ2_*, IQ3_XXS; Q2_K under Q2_K_S)
};

/// One entry per tensor. llama.cpp 0.5, src/llama-quant.cpp. Error(unsupported) where a row's length fits no encoding
/// of the rules (Q1_0 has no fallback) or not the one named for the embedding or the output; Error(bad_input) for a
/// tensor of a model with experts whose layer is not in its name.
std::vector<MixedTensor> mix_types(const std::vector<MixTensor>& tensors, const MixModel& model,
                                   const MixOptions& options);

}  // namespace ropewalk::formats
