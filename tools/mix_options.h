#pragma once

#include <optional>
#include <string>
#include <vector>

#include "formats/quantize/quantize.h"
#include "tools/command_line.h"

namespace ropewalk::tools {

/// How a quantized GGUF's types are chosen, in llama-quantize 0.5's words; of quantize and convert.
struct MixChoice {
  bool allow_requantize = false, leave_output = false, pure = false, imatrix_strict = false;
  std::optional<std::string> imatrix, output_type, embedding_type, mix;
  std::optional<std::string> bpw, plan, save_plan, candidates;  // of types to be chosen (tools/auto_mix.h)
  std::optional<std::uint64_t> size;
  std::vector<std::string> include_weights, exclude_weights;
  std::vector<std::pair<std::string, std::string>> tensor_types;  // --tensor-type and --tensor-type-file, in order
};
void declare_mix(CommandLine& line, MixChoice& choice);
/// True if any of them was given.
bool is_given(const MixChoice& choice);

/// The choice as options, all but file type and importances. Error(usage) for whatever llama-quantize answers with its
/// usage.
formats::QuantizeOptions parse_mix(const MixChoice& choice);
/// --imatrix with --include-weights and --exclude-weights; nullopt without, or if nothing is left of it.
std::optional<formats::Imatrix> read_importances(const MixChoice& choice);

/// Importances as they meet the tensors of a plan.
struct Coverage {
  std::size_t able = 0, weighted = 0;  // tensors whose encoders use importances, and that have some
  std::vector<std::string> unweighted;
  std::vector<std::pair<std::string, std::vector<std::size_t>>> experts_unseen;  // of the importances used, by tensor
};
Coverage coverage_of(const formats::QuantizePlan& plan);
/// "importances cover 223 of 225 tensors; unweighted: output.weight and token_embd.weight; experts never hit: 3 and 7 of
/// blk.0.ffn_down_exps.weight"
std::string coverage_text(const Coverage& coverage);
/// Under --imatrix-strict Error(bad_input) for a tensor without, embedding and output aside: llama-imatrix skips those.
void check_coverage(const Coverage& coverage, const MixChoice& choice);
/// Rows whose length the mix's type does not allow, one note a pair of types.
std::vector<std::string> fallback_notes(const formats::QuantizePlan& plan);
/// What --tensor-type names and the plan has not: a note a pattern.
std::vector<std::string> idle_rule_notes(const formats::QuantizeOptions& options, const formats::QuantizePlan& plan);

/// True if types are to be chosen: --bpw, --size or --plan.
bool chooses_types(const MixChoice& choice);
/// A type of ggml's, or Error(usage) naming the option.
DType ggml_type(const std::string& option, const std::string& name);

/// "Q4_K_M, Q5_K_M, ...": for messages.
std::string file_type_names();

}  // namespace ropewalk::tools
