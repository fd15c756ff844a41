#pragma once

#include <optional>
#include <string>
#include <vector>

#include "formats/rope_layers.h"
#include "tools/extend.h"

// What extend --plan needs of a model, without its weights.

namespace ropewalk::tools {

/// A model without its weights: what planning needs.
struct PlannedModel {
  std::string text;  // the SOURCE
  ModelConfig config;
  Json hf_config;     // null for a GGUF
  std::string place;  // the file that says it: "config.json"
  std::vector<std::string> warnings;
  // of a class that ropewalk does not run: its ropes, by kind of layer if there are several; `config` has that of the
  // layers that see everything
  std::optional<formats::WantedRope> ropes = std::nullopt;
  bool unread = false;      // the file's rope is not read: a SPEC says the original context
  int sliding_layers = -1;  // those with a window; -1: all, if the config has one
  bool layered() const { return ropes && (ropes->layers.size() > 1 || !ropes->layers[0].layer_type.empty()); }
};

/// SOURCE: a folder, a config.json, a shard, a GGUF or its first bytes, synthetic: or a name in the Hub cache.
PlannedModel open_planned_model(const ExtendOptions& options, const Io& io);

/// The bytes of keys and values for `tokens` tokens; the last `sliding_window` of them if there is one.
struct KvCache {
  std::uint64_t f16, q8_0;
};
KvCache kv_cache(const PlannedModel& model, int tokens);

}  // namespace ropewalk::tools
