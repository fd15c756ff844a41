#pragma once

#include <limits>
#include <map>
#include <set>

#include "formats/engines/flags.h"
#include "formats/json_fields.h"
#include "formats/lint/lint.h"
#include "formats/rope_fields.h"
#include "lib/error.h"
#include "lib/rope.h"

// One run over one config.json: what the rules of this folder share. Private to it.

namespace ropewalk::formats::linting {

/// A rope dictionary of the file.
struct RopeDict {
  std::string pointer;  // "/text_config/rope_parameters/full_attention"
  const Json* json;
  std::string layer;  // "full_attention"; empty: all layers
  bool read = true;   // by the newest transformers; false: rope_parameters beside a rope_scaling
  std::string type;   // rope_type, else type; empty if neither is text
  std::string outer;  // "rope_scaling" or "rope_parameters"
  std::string at(const char* key) const { return pointer + "/" + key; }
  const Json* find(const char* key) const;
  /// A finite number; nullopt if absent, null or something else.
  std::optional<double> number(const char* key) const;
};

/// What can be wrong with an engine's reading, so that one fault is reported once.
enum class Aspect { load, frequencies, attention, context };

/// How an engine's rope differs from the declared one.
struct Difference {
  bool frequencies = false, attention = false;
  double ratio = 1;  // of the frequencies, the largest, engine / declared or its inverse: >= 1
  int pair = 0;
  double attention_factor = 1, declared_attention_factor = 1;
  const EngineRope* rope = nullptr;  // the engine's, of the layer type that differs
  std::string kind;                  // the declared layer type that differs
};

class Linter {
 public:
  Linter(const LintInput& input, const LintOptions& options);

  const LintInput& input;
  const LintOptions& options;
  const LintFile& file;    // config.json
  const Json& model;       // the file, or its text_config
  std::string prefix;      // "/text_config"
  std::string model_type;  // of `model`
  bool compared;           // the engines' rules were compared with their output for this model type
  std::vector<RopeDict> dicts;

  EngineOptions told;                   // what an engine finds beside config.json: the tokenizer's limit
  std::vector<EngineVersion> engines;   // those asked
  std::vector<EngineReading> readings;  // of each, without a context asked
  EngineReading reference;              // newest transformers
  /// The rope the file means (rope_meaning.h), else what the newest transformers reads; empty if neither does.
  std::vector<EngineRope> declared;
  std::string declared_by;            // "modeling_mistral_yarn.py", "transformers 5.23.0"
  std::optional<Error> refused;       // why nobody can say what the file means
  std::optional<std::string> remote;  // the YaRN repository's code, if auto_map names it
  int context = 0;                    // max_position_embeddings; 0 if it is no length
  int wanted = 0;                     // options.context, else what the file declares to serve; 0: unknown

  std::string at(const std::string& key) const { return prefix + "/" + key; }
  const Json* find(const char* key) const;  // of the model, else (multi-modal files) of the whole
  std::optional<double> number(const char* key) const;
  bool scaled() const;  // some dictionary that is read scales
  bool latent() const;  // multi-head latent attention
  /// The dictionary that is read where all layers share one, nullptr otherwise.
  const RopeDict* flat() const;
  int head_dim() const;  // 0 if the file does not say

  /// A finding about the file, with the rule's own severity.
  Finding& add(std::string_view rule, const std::string& pointer, std::string message, std::string fix);
  Finding& add(std::string_view rule, Severity severity, const std::string& pointer, std::string message,
               std::string fix);
  /// In another file of the folder.
  Finding& add_in(const LintFile& other, std::string_view rule, Severity severity, const std::string& pointer,
                  std::string message, std::string fix);
  /// A finding about engines[i] for i in hurt (not empty); the severity follows, at most `most`.
  Finding& add_for(std::string_view rule, const std::vector<std::size_t>& hurt, const std::string& pointer,
                   std::string message, std::string fix, Severity most = Severity::error);

  /// "vllm 0.33.0 and sglang 0.5.23".
  std::string names(const std::vector<std::size_t>& which) const;
  /// The same with a verb.
  std::string does(const std::vector<std::size_t>& which, const char* one, const char* several) const {
    return names(which) + " " + (which.size() == 1 ? one : several);
  }
  /// The line that runs the engine as declared; empty: none, or none needed.
  std::string flags_of(std::size_t engine) { return rope_flags(engine).line; }
  /// The same with one more key of config.json overridden; empty where the engine's command line cannot.
  std::string flags_with(std::size_t engine, const std::string& key, const Json& value);
  void explain(std::size_t engine, Aspect aspect) { explained_.insert({engine, aspect}); }
  void explain(const std::vector<std::size_t>& which, Aspect aspect) {
    for (const std::size_t engine : which) explain(engine, aspect);
  }
  /// Nothing more about engines: the file contradicts itself. No flags either, which would spread what it says.
  void explain_all();
  /// The value at this offset of the file is named: what other rules make of what stands for it is not said.
  void no_number(std::size_t offset) { no_numbers_.insert(offset); }
  bool explained(std::size_t engine, Aspect aspect) const { return explained_.contains({engine, aspect}); }

  /// Against the declared rope, at the longest length both serve; no difference where either fails.
  Difference difference(const EngineReading& reading) const;
  /// The same of a changed config.json.
  EngineReading read_changed(const EngineVersion& engine, const std::vector<JsonEdit>& edits) const;
  /// Runs where it would not have (an error, a limit of ropewalk's own is none).
  static bool fails(const EngineReading& reading);
  /// Some finding so far is an error.
  bool has_error() const;

  std::vector<Finding> take();

 private:
  std::map<std::size_t, EngineFlags> flags_;
  /// What runs the engine as declared; neither possible nor a line where nobody can say what is declared.
  const EngineFlags& rope_flags(std::size_t engine);
  Severity by_engine(const std::vector<std::size_t>& hurt) const;
  void collect_dictionaries();
  void declare();
  void settle_original_first();
  std::vector<Finding> findings_;
  std::set<std::pair<std::size_t, Aspect>> explained_;
  std::set<std::size_t> no_numbers_;
  bool contradictory_ = false;
};

/// A key of a rope dictionary that some engine reads: no kind of layer, whatever its value.
bool is_rope_key(const std::string& key);
/// The file's JSON with the edits made.
Json edited(const Json& json, const std::vector<JsonEdit>& edits);
/// While it is open no length to be served is known, and no fix names one: what follows from a doubted original context,
/// and a factor x original that is not max_position_embeddings.
inline bool leaves_length_open(const Finding& one) {
  return one.doubts_original || (one.rule == "R22" && !one.engines.empty());
}
/// What lint takes for the same number: attention factors and divisors stand in files with six digits (1.27726), which
/// is 1e-5 at the worst. The flags' comparer (engines/flags.h) and the emitter's (rope_emit.h), which vouch for numbers
/// that are written out in full, ask for the engines' own 3 units in the last place of float32, 3.6e-7.
inline constexpr double kSameRope = 1e-5;
/// Tables that mean the same rotation; a pair that one of them lacks differs by an infinite ratio.
bool same_frequencies(const std::vector<double>& a, const std::vector<double>& b, double* ratio = nullptr,
                      int* pair = nullptr);

/// What a value that a strict class refuses was to be: 128 of 128.0 and of "128".
std::optional<Json> whole_number_meant(const Json& value);
/// The model whose config.json this is, as one word for a shell; MODEL for a file under another name.
std::string source_of(const Linter& lint);
/// What to do where these engines read the file wrongly at `pointer`: ropewalk's command that writes what they read, as it
/// can be run, or that no config.json does.
std::string rewrite_advice(const Linter& lint, const std::vector<std::size_t>& hurt, const std::string& pointer);

// The rules, in the order they run: what an earlier one explains a later one does not repeat.
void parse_rules(Linter& lint);    // R01 - R04, R10 - R14, and within them
void place_rules(Linter& lint);    // R05 - R09
void head_rules(Linter& lint);     // R31
void number_rules(Linter& lint);   // R20, R27, R29, R33
void length_rules(Linter& lint);   // R21 - R23, R32
void yarn_rules(Linter& lint);     // R24 - R26, R28, R30
void context_rules(Linter& lint);  // R40 - R49
void meaning_rules(Linter& lint);  // S1 - S3
void engine_rules(Linter& lint);   // E01 - E04
void refused_rope(Linter& lint);   // R34, last: where no other finding is an error
std::vector<Finding> gguf_rules(const LintInput& input, const LintOptions& options);  // G01 - G11

}  // namespace ropewalk::formats::linting
