#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "formats/adapters/python_pattern.h"
#include "formats/json.h"
#include "formats/json_fields.h"

namespace ropewalk::formats {

struct AdapterKind;

/// adapter_config.json of an adapter whose kind is read, every field of it known.
struct PeftConfig {
  Json json;               // the whole file
  std::string path, text;  // as read
  std::string base_model;  // base_model_name_or_path, empty if not said
  const AdapterKind* kind = nullptr;

  JsonFields fields() const { return {path, text, json}; }
  /// A boolean, false if absent or null.
  bool flag(std::string_view name) const;
};
/// Error(unsupported) naming the field for every kind of adapter that is not read, with the reason, and every field,
/// known or not, that would change the merge; Error(bad_input) for what is missing or ill-typed.
PeftConfig read_peft_config(const std::string& path, const std::string& text);

/// rank_pattern or alpha_pattern of PEFT 0.21.2 (get_pattern_key): the first key, in the file's order, whose expression
/// matches the end of a module's path from a dot on, or all of it.
class PatternNumbers {
 public:
  /// Error(bad_input) for a value that is no number in [min, max].
  PatternNumbers(const PeftConfig& config, const char* field, double min, double max);
  std::optional<double> find(const std::string& module) const;

 private:
  std::vector<std::pair<PythonPattern, double>> numbers_;
};

/// Rank and scale of a module from r, alpha and their patterns.
class RankAndScale {
 public:
  /// `alpha`: the field, "lora_alpha" or "alpha". Error(bad_input) for what is missing.
  RankAndScale(const PeftConfig& config, const char* alpha);
  struct Numbers {
    std::uint64_t rank;
    double scale;  // alpha / rank, or alpha / sqrt(rank) with use_rslora
  };
  Numbers of(const std::string& module) const;
  bool rslora() const noexcept { return rslora_; }

 private:
  PatternNumbers ranks_, alphas_;
  double rank_, alpha_;
  bool rslora_;
};

}  // namespace ropewalk::formats
