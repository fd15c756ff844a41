#pragma once

#include "tests/tools/command.h"

namespace ropewalk::tools::test {

/// tolstoy-4m as a YaRN model of the repository's Mistral code: betas 128/2 and 0.07 ln s + 1 stand in no file.
inline fs::path remote_code_model(const Scratch& scratch) {
  const fs::path folder = scratch / "remote";
  copy_of(model("tolstoy-4m"), folder);
  Json config = Json::parse(slurp(folder / "config.json"));
  config.update({{"model_type", "mistral"},
                 {"auto_map",
                  {{"AutoConfig", "configuration_mistral.MistralConfig"},
                   {"AutoModelForCausalLM", "modeling_mistral_yarn.MistralForCausalLM"}}},
                 {"max_position_embeddings", 1024},
                 {"max_sequence_length", 4096},
                 {"rope_scaling",
                  {{"type", "yarn"}, {"factor", 16.0}, {"original_max_position_embeddings", 256}, {"finetuned", true}}},
                 {"sliding_window", 4096}});
  spill(folder / "config.json", config.dump(2));
  spill(folder / "generation_config.json", R"({"max_length": 1024})");
  for (const char* name : {"configuration_mistral.py", "modeling_mistral_yarn.py", "own.py"}) spill(folder / name, "#");
  return folder;
}

}  // namespace ropewalk::tools::test
