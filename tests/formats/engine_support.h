#pragma once

#include "formats/engines/engine.h"
#include "tests/formats/rope_golden.h"

// What tests of the engines' rules share: cases of tests/golden/rope, and a file without a rope.

namespace ropewalk::formats {

using golden::engines;

inline const Json& config_of(const std::string& id) {
  for (const Json& one : engines()["cases"])
    if (one["id"] == id) return one["config"];
  ADD_FAILURE() << id;
  return engines();
}
inline const Json& result_of(const std::string& id, const std::string& engine) {
  for (const Json& one : engines()["cases"])
    if (one["id"] == id) return golden::result_of(one, engine);
  ADD_FAILURE() << id;
  return engines();
}

inline Json plain_of(const std::string& model_type) {
  return {{"model_type", model_type},
          {"hidden_size", 4096},
          {"num_attention_heads", 32},
          {"max_position_embeddings", 65536},
          {"rope_theta", 10000.0}};
}

}  // namespace ropewalk::formats
