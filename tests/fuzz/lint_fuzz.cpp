#include <string>

#include "formats/lint/lint_fix.h"
#include "lib/error.h"
#include "tests/fuzz/fuzz.h"

using namespace ropewalk;
using namespace ropewalk::formats;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size > 1 << 16) return 0;
  LintInput input;
  try {
    input.config = parse_lint_file("config.json", std::string(reinterpret_cast<const char*>(data), size));
  } catch (const Error&) {
    return 0;
  }
  LintOptions named;
  named.engines = {parse_engine("vllm@0.10"), parse_engine("llama.cpp")};
  named.context = 65536;
  for (const LintOptions& options : {LintOptions{}, named}) {
    const std::vector<Finding> findings = lint(input, options);
    for (const Finding& one : findings) {
      require(find_lint_rule(one.rule) != nullptr, "a finding is of a rule");
      require(one.line >= 1 && one.column >= 1 && !one.message.empty(), "a finding has a place and a message");
    }
    if (size > 4096) continue;
    for (const FixedFile& file : safe_fixes(input, options, findings).files)
      require(!parse_lint_file(file.path, file.after).json.empty(), "a fixed file is JSON");
  }
  return 0;
}

std::vector<std::string> fuzz_seeds() {
  const std::string sizes =
      R"("hidden_size": 64, "num_attention_heads": 4, "num_hidden_layers": 2, "max_position_embeddings": 2048)";
  return {
      "{\"model_type\": \"llama\", " + sizes +
          R"(, "rope_theta": 10000.0, "rope_scaling": {"type": "yarn", "factor": 8, "original_max_position_embeddings": 256,
 "attention_factor": 1.1, "mscale": 1.0, "mscale_all_dim": 1.0, "beta_fast": 64, "truncate": false}})",
      "{\"model_type\": \"mistral\", " + sizes +
          R"(, "sliding_window": 512, "auto_map": {"AutoModelForCausalLM": "modeling_mistral_yarn.M"}, "rope_scaling": {"type": "yarn",
 "factor": 4.0, "original_max_position_embeddings": 512}})",
      "{\"model_type\": \"phi3\", " + sizes +
          R"(, "original_max_position_embeddings": 256, "rope_scaling": {"type": "longrope", "short_factor": [1, 1, 1, 1, 1, 1, 1, 1], "long_factor": [2, 2, 2, 2, 2, 2, 2, 2]}})",
      "{\"model_type\": \"llama\", " + sizes +
          R"(, "layer_types": ["full_attention"], "rope_parameters": {"full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6}}, "rope_scaling": null})",
      "{\"model_type\": \"qwen2\", " + sizes +
          R"(, "x": [NaN, -Infinity], "rope_theta": 1e6, "rope_parameters": {"rope_type": "dynamic", "factor": 2.0}, "rope_scaling": {"rope_type": "linear", "factor": 2}})"};
}
