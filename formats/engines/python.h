#pragma once

#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "formats/config_file.h"
#include "formats/engines/engine.h"

// How Python code walks through a config.json: values with their places, the exceptions it raises, and a record of what
// it looked at.
// Private to the rules of this folder.

namespace ropewalk::formats::engines {

/// An exception of the engine on its way to read_as.
struct Raised {
  EngineError error;
};
[[noreturn]] void raise(std::string kind, std::string text, std::string pointer = "");
/// Where ropewalk stops following although the engine would go on: numbers that no RopeSpec holds (negative factors,
/// contexts with a fraction).
[[noreturn]] void not_followed(const std::string& why, const std::string& pointer);

/// A value and where it stands: a JSON pointer into config.json, or "" with words for where else it is from.
struct Value {
  Json json;
  std::string pointer;
  std::string source = "config.json";  // "default of transformers 5.23.0" if pointer is empty
};

/// "str", "int", "NoneType", ...
std::string python_type(const Json& value);
/// repr() of a scalar, shortened; "{...}" for dictionaries and lists of more than a few entries.
std::string python_repr(const Json& value);
/// str(): a string stands bare.
std::string python_str(const Json& value);
bool truthy(const Json& value);
inline bool is_number(const Json& value) { return value.is_number() || value.is_boolean(); }
/// The number, or TypeError(text) with "{type}" in it replaced by the value's Python type.
double number(const Value& value, const std::string& type_error);

/// A dict whose values know their places.
class Dict {
 public:
  Dict() = default;
  /// All members of an object of the file.
  Dict(const Json& object, const std::string& pointer);
  const Value* find(const std::string& key) const;
  bool contains(const std::string& key) const { return find(key) != nullptr; }
  void set(const std::string& key, Value value);
  void set_default(const std::string& key, Value value);
  std::size_t size() const { return entries_.size(); }
  const std::vector<std::pair<std::string, Value>>& entries() const { return entries_; }
  std::string pointer;  // of the dict itself

 private:
  std::vector<std::pair<std::string, Value>> entries_;
};

/// The file as one engine sees it, and the notes taken on the way.
class Walk {
 public:
  Walk(const EngineVersion& engine, const Json& config, const EngineOptions& options);

  const EngineVersion& engine;
  const EngineOptions& options;

  /// A member of the model's config; nullptr if absent. JSON null is a value.
  const Json* raw(const std::string& key) const;
  bool has(const std::string& key) const { return raw(key) != nullptr; }
  /// getattr(config, key, default): present, even if null.
  Value get(const std::string& key, const Json& otherwise) const;
  std::string pointer_to(const std::string& key) const { return model_.pointer + "/" + key; }
  Value defaulted(const Json& value) const { return {value, "", "default of " + engine.title()}; }
  /// A whole number above 0, such as hidden_size; Error kinds as Python's arithmetic would give them.
  int positive_int(const std::string& key) const;
  std::string model_type() const;
  /// The type that AutoConfig looks up: of the whole file, where the model is a part of it.
  std::string asked_type() const;
  /// The model is a text_config of a larger file.
  bool nested() const { return model_.nested(); }
  /// The newest transformers has no such class and no auto_map names its code: AutoConfig raises, whatever is overridden.
  bool unknown_class() const;

  /// Marks a value as one that the engine's result depends on, so that no notice says it is not read.
  void used(const Value& value) const { used_.insert(value.pointer); }
  void notice(const std::string& text, const std::string& pointer = "") { notices_.push_back({pointer, text}); }
  std::vector<EngineNotice>& notices() { return notices_; }
  /// Adds a notice for every key of rope_scaling, rope_parameters and of the top level's rope keys that nothing used.
  void notice_unused();

 private:
  const Json& whole_;
  ModelPart model_;
  mutable std::set<std::string> used_;
  std::vector<EngineNotice> notices_;
};

/// A rope under construction.
class Draft {
 public:
  explicit Draft(Walk& walk) : walk_(walk) {}
  EngineRope rope;
  RopeSpec& spec() { return rope.spec; }
  void record(const char* field, const Value& value) {
    walk_.used(value);
    rope.spec.provenance.push_back({field, value.source, value.pointer});
  }
  void derived(const char* field, const std::string& how) { rope.spec.provenance.push_back({field, how, ""}); }
  /// The finished rope: refuses what no RopeSpec may hold (not_followed), and fixes the attention factor.
  EngineRope finish();

 private:
  Walk& walk_;
};

/// No head is wider: models have up to 576 channels, and every candidate of engine_flags computes tables of that many.
inline constexpr int kMostChannels = 1 << 16;
/// int() of a number of channels: 0 to kMostChannels, else not followed.
int channels(double n, const std::string& pointer);
/// What a context that is no number raises where torch compares it with a length.
inline constexpr const char* kAboveTensor = "'>' not supported between instances of 'Tensor' and '{type}'";
/// A count of tokens that something is computed from, as RopeSpec holds it.
int tokens(const Value& value, const std::string& type_error);
/// A count whose logarithm is taken: math.log raises at 0 and below.
int logged_tokens(const Value& value, const std::string& type_error);
/// max_position_embeddings where a method computes nothing from it: 0 and below are 0, and a whole number that no int
/// holds is the largest int, with a notice. Anything else as tokens().
int nominal_tokens(Walk& walk, const Value& value, const std::string& type_error);

}  // namespace ropewalk::formats::engines
