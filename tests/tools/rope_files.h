#pragma once

#include <fstream>
#include <stdexcept>

#include "tests/tools/command.h"

// config.json files whose rope is asked about.

namespace ropewalk::tools::test {

/// A config.json in a folder of its own, Llama-2 7B's shape.
inline std::string config_in(const fs::path& folder, const Json& more) {
  fs::create_directories(folder);
  Json config = {{"model_type", "llama"},           {"hidden_size", 4096},
                 {"num_attention_heads", 32},       {"num_hidden_layers", 32},
                 {"max_position_embeddings", 4096}, {"rope_theta", 10000.0}};
  for (const auto& item : more.items()) config[item.key()] = item.value();
  std::ofstream(folder / "config.json") << config.dump(2) << "\n";
  return (folder / "config.json").string();
}
inline std::string yarn_llama(const Scratch& scratch) {
  return config_in(
      scratch / "yarn-llama",
      {{"max_position_embeddings", 65536},
       {"rope_scaling",
        {{"factor", 16.0}, {"original_max_position_embeddings", 4096}, {"type", "yarn"}, {"finetuned", true}}}});
}
inline std::string qwen(const Scratch& scratch, bool scaled) {
  Json more = {{"model_type", "qwen2"}, {"max_position_embeddings", 32768}, {"rope_theta", 1000000.0}};
  if (scaled) more["rope_scaling"] = {{"factor", 4.0}, {"original_max_position_embeddings", 32768}, {"type", "yarn"}};
  return config_in(scratch / (scaled ? "qwen-yarn" : "qwen"), more);
}

/// What `rope --json` says of an engine, "vllm 0.33.0".
inline const Json& target(const Ran& ran, const std::string& engine) {
  for (const Json& one : ran.json()["targets"])
    if (one["engine"] == engine) return one;
  throw std::runtime_error("no target " + engine);
}

}  // namespace ropewalk::tools::test
