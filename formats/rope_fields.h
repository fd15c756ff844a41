#pragma once

#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "formats/json.h"
#include "formats/rope_config.h"
#include "lib/error.h"
#include "lib/rope.h"

namespace ropewalk::formats {

/// The largest factor that a rope is meant by.
inline constexpr double kMostFactor = 65536;
/// What cosines and sines may be multiplied by: above 0, in float32.
inline bool is_attention_factor(double value) { return value > 0 && value <= std::numeric_limits<float>::max(); }

/// Why no model turns by a rope, whatever wrote it down.
struct RopeFault {
  std::string field;    // of the provenance: "theta" or "factor"
  std::string problem;  // "a base of 1e+308 makes frequencies of 0 in float32, in which engines turn"
  std::string fix;
};
/// Frequencies that are 0, infinite or no numbers in float32, at one token or at the whole context; the pairs of a
/// proportional rope that stand still by design apart.
std::optional<RopeFault> frequency_fault(const RopeSpec& spec);
/// That, or a factor above kMostFactor.
std::optional<RopeFault> rope_fault(const RopeSpec& spec);
/// The pointer of a field's provenance; "" where it has none.
std::string pointer_of(const RopeSpec& spec, const std::string& field);

/// True for a rope_type and a `type` that say the same in two generations' words: longrope and su, default and mrope.
bool is_renamed_type(const Json& rope_type, const Json& type);
/// A rope dictionary whatever its spelling: keys in one order, its type as rope_type, whole numbers as floats, without
/// rope_theta, which is looked up elsewhere too. Anything else as it is.
Json spelling_apart(const Json& dictionary);

/// The rope fields of one config.json: typed access, errors with file:line:column, and a record of where each value
/// came from.
/// A field is looked for in the rope dictionary first, then at the top level, as transformers does it; JSON null counts
/// as given (and is refused).
class RopeFields {
 public:
  /// `pointer` is the dictionary's place ("/rope_scaling"; "" if there is none); `defaults` names whose defaults apply
  /// ("transformers 5.23.0").
  RopeFields(const std::string& path, const std::string& text, const Json& config, std::string pointer,
             std::string defaults);

  bool in_dictionary(const char* key) const { return dictionary_ && dictionary_->contains(key); }
  bool at_top_level(const char* key) const { return config_.contains(key); }
  /// The dictionary's value, nullptr if the key is absent.
  const Json* value(const char* key) const;
  const Json* dictionary() const noexcept { return dictionary_; }

  /// A finite number of the dictionary; recorded as `field`. Error(bad_input) if absent or something else: true, which
  /// Python takes for 1, is a slip.
  double number(const char* key, const char* field);
  /// As above; nullopt if absent or null.
  std::optional<double> optional_number(const char* key, const char* field);
  /// > 0, from the dictionary.
  double positive(const char* key, const char* field);
  std::vector<double> positive_list(const char* key, std::size_t length, const char* field);
  /// A positive whole number at `where` ("/rope_scaling/original_max_position_embeddings").
  int context_at(const std::string& where, const char* field);
  /// rope_theta: dictionary, then top level, then 10000.
  double theta();

  void record(const char* field, const std::string& pointer) { provenance_.push_back({field, file_, pointer}); }
  void record_default(const char* field) { provenance_.push_back({field, "default of " + defaults_, ""}); }
  void record_derived(const char* field, const std::string& how) { provenance_.push_back({field, how, ""}); }
  std::vector<RopeProvenance> take_provenance() { return std::move(provenance_); }

  std::string pointer_to(const char* key) const { return pointer_ + "/" + key; }
  [[noreturn]] void fail(ErrorKind kind, const std::string& pointer, const std::string& problem,
                         const std::string& fix) const;

 private:
  const Json& at(const std::string& pointer) const;
  double number_at(const std::string& pointer) const;

  const std::string& path_;
  const std::string& text_;
  const Json& config_;
  const Json* dictionary_ = nullptr;
  std::string pointer_, defaults_, file_;
  std::vector<RopeProvenance> provenance_;
};

/// The YaRN repository's remote code that auto_map names ("modeling_mistral_yarn"), or nullopt. Other remote code is
/// not recognised.
std::optional<std::string> yarn_remote_code(const Json& config);

/// The class of a model that auto_map names, of code that is not recognised: "modeling_foo.FooForCausalLM".
std::optional<std::string> unknown_remote_code(const Json& config);

/// The rope which that remote code computes (jquesnelle/yarn, scaled_rope/, commit a18e549 and later; never run): reads
/// rope_scaling and the top-level rope_theta only.
RopeSpec read_yarn_remote_rope(const std::string& path, const std::string& text, const Json& config,
                               const RopeGeometry& geometry, const std::string& code);

/// transformers 5.23.0's own reading, whatever auto_map says.
RopeSpec read_transformers_rope(const std::string& path, const std::string& text, const Json& config,
                                const RopeGeometry& geometry, std::vector<std::string>& warnings);

}  // namespace ropewalk::formats
