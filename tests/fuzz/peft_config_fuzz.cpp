#include <cmath>
#include <string>

#include "formats/adapters/peft_config.h"
#include "lib/error.h"
#include "tests/fuzz/fuzz.h"

using namespace ropewalk;
using namespace ropewalk::formats;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  if (const auto factor = parse_lora_key(text)) {  // the same bytes as a tensor's key
    require(!factor->module.empty() && factor->module.find("_orig_mod.") == std::string::npos,
            "a module has a name without wrappers");
    require(text.find(factor->is_a ? ".lora_A." : ".lora_B.") != std::string::npos, "the role is the key's");
  }
  try {
    const PeftConfig config = read_peft_config("adapter_config.json", text);
    require(config.rank >= 1 && std::isfinite(config.scale), "rank and scale can be used");
    require(config.json["peft_type"] == "LORA", "only LoRA is read");
    for (const char* field : {"use_dora", "lora_bias"})
      require(!config.json.contains(field) || config.json[field] != true, "what changes the merge is refused");
  } catch (const Error& error) {
    require(error.kind() == ErrorKind::bad_input || error.kind() == ErrorKind::unsupported,
            "refused as bad input or as unsupported");
    require(error.where().path == "adapter_config.json" && !error.fix().empty(),
            "a refusal names the file and what to do");
  }
  return 0;
}

std::vector<std::string> fuzz_seeds() {
  return {
      R"({"peft_type": "LORA", "base_model_name_or_path": "org/base", "r": 16, "lora_alpha": 32, "use_rslora": true, "bias": "none", "fan_in_fan_out": false, "rank_pattern": {},
 "target_modules": ["q_proj", "v_proj"], "modules_to_save": null, "init_lora_weights": "gaussian"})",
      R"({"peft_type": "LORA", "r": 8, "lora_alpha": 8, "use_dora": true, "lora_bias": true})",
      R"({"peft_type": "IA3"})", "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight",
      "module.base_model.model._orig_mod.layers.1.mlp.up_proj.lora_B.default.weight"};
}
