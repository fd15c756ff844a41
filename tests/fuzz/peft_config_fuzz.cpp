#include "formats/adapters/peft_config.h"

#include <cmath>
#include <string>

#include "formats/adapters/kinds.h"
#include "lib/error.h"
#include "tests/fuzz/fuzz.h"

using namespace ropewalk;
using namespace ropewalk::formats;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  if (const auto key = parse_adapter_key(text)) {  // the same bytes as a tensor's key
    require(key->module.find("_orig_mod.") == std::string::npos, "a module has a name without wrappers");
    require(!key->role.empty() && (!key->module.empty() || key->role.starts_with("vera_")), "only VeRA shares tensors");
    require(text.find(key->role.substr(0, key->role.find('.'))) != std::string::npos, "the role is the key's");
  }
  try {
    const PeftConfig config = read_peft_config("adapter_config.json", text);
    require(config.kind && config.json["peft_type"] == std::string(config.kind->peft_type), "the kind is the file's");
    for (const auto& [field, value] : config.json.items()) {
      const AdapterField* known = find_field(*config.kind, field);
      require((known && known->use != FieldUse::refused) || value.is_null() || value == false || value == 0 ||
                  value == "none" || value.empty(),
              "what changes the merge is refused");
    }
    if (config.kind == &kLora) {
      const auto numbers = RankAndScale(config, "lora_alpha").of("model.layers.0.self_attn.q_proj");
      require(numbers.rank >= 1 && std::isfinite(numbers.scale), "rank and scale can be used");
    }
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
      R"({"peft_type": "LORA", "base_model_name_or_path": "org/base", "r": 16, "lora_alpha": 32, "use_rslora": true, "bias": "none", "fan_in_fan_out": false, "rank_pattern": {"^model\\.layers\\.0\\..*": 2},
 "alpha_pattern": {"q_proj": 3.5}, "target_modules": ["q_proj", "v_proj"], "modules_to_save": null, "init_lora_weights": "gaussian"})",
      R"({"peft_type": "LORA", "r": 8, "lora_alpha": 8, "use_dora": true, "lora_bias": true})",
      R"({"peft_type": "IA3"})",
      "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight",
      "module.base_model.model._orig_mod.layers.1.mlp.up_proj.lora_B.default.weight",
      "base_model.model.model.embed_tokens.token_adapter.trainable_tokens_delta"};
}
