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

/// A field that PEFT before 0.3 wrote.
inline constexpr const char* kMergeWeights = "merge_weights";

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
  enum class Of { ranks, alphas };
  /// Error(bad_input) for a value that is no number in the range, or no integer where ranks are.
  PatternNumbers(const PeftConfig& config, Of what);
  std::optional<double> find(const std::string& module) const;
  /// Another key that matches and says another number than the first does, where the keys stand sorted, as PEFT saves
  /// them: in which order they were trained the file does not tell. nullopt: none. Each with its key.
  using Said = std::pair<std::string, double>;
  std::optional<std::pair<Said, Said>> rivals(const std::string& module) const;

 private:
  struct Entry {
    std::string key;
    PythonPattern pattern;
    double number;
  };
  std::vector<Entry> entries_;
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
