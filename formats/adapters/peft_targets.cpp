#include "formats/adapters/peft_targets.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <algorithm>
#include <optional>
#include <set>
#include <utility>

#include "formats/json_fields.h"
#include "lib/error.h"

namespace ropewalk::formats {
namespace {

constexpr std::uint32_t kMatchLimit = 100'000;  // steps; a sane expression takes some dozens on a module's path
constexpr std::size_t kLongestPattern = 64 << 10;

bool too_large(int error) {
  return error == PCRE2_ERROR_PATTERN_TOO_LARGE || error == PCRE2_ERROR_PATTERN_TOO_COMPLICATED ||
         error == PCRE2_ERROR_PARENTHESES_NEST_TOO_DEEP || error == PCRE2_ERROR_HEAP_FAILED;
}

std::string beginning(const std::string& text) { return text.size() <= 80 ? text : text.substr(0, 77) + "..."; }

/// A Python regular expression.
class Pattern {
 public:
  /// `options`: of PCRE2. `where`, `field`: for messages.
  Pattern(const std::string& text, std::uint32_t options, Error::Where where, const char* field)
      : text_(text), where_(std::move(where)), field_(field) {
    int error = 0;
    PCRE2_SIZE at = 0;
    if (text.size() > kLongestPattern)
      refuse("has " + std::to_string(text.size()) + " characters, expected at most " + std::to_string(kLongestPattern));
    code_.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), options, &error, &at, nullptr));
    if (!code_) refuse(too_large(error) ? "is too large a regular expression" : "is no regular expression");
  }

  /// The group `idx`, or the whole match if there is no such group; nullopt if the subject does not match.
  std::optional<std::string> match(const std::string& subject) const {
    const std::unique_ptr<pcre2_match_data, decltype(&pcre2_match_data_free)> data(
        pcre2_match_data_create_from_pattern(code_.get(), nullptr), pcre2_match_data_free);
    const std::unique_ptr<pcre2_match_context, decltype(&pcre2_match_context_free)> context(
        pcre2_match_context_create(nullptr), pcre2_match_context_free);
    pcre2_set_match_limit(context.get(), kMatchLimit);
    const int found = pcre2_match(code_.get(), reinterpret_cast<PCRE2_SPTR>(subject.data()), subject.size(), 0, 0,
                                  data.get(), context.get());
    if (found == PCRE2_ERROR_NOMATCH) return std::nullopt;
    if (found < 0) refuse("takes too much work to match '" + subject + "'");
    const PCRE2_SIZE* ends = pcre2_get_ovector_pointer(data.get());
    const int group = pcre2_substring_number_from_name(code_.get(), reinterpret_cast<PCRE2_SPTR>("idx"));
    const std::size_t i = group > 0 ? static_cast<std::size_t>(group) : 0;
    return subject.substr(ends[2 * i], ends[2 * i + 1] - ends[2 * i]);
  }

 private:
  struct Free {
    void operator()(pcre2_code* code) const { pcre2_code_free(code); }
  };
  [[noreturn]] void refuse(const std::string& problem) const {
    throw Error(ErrorKind::bad_input, where_, std::string("'") + field_ + "': '" + beginning(text_) + "' " + problem,
                "correct it, or name the modules in a list");
  }
  std::string text_;
  Error::Where where_;
  const char* field_;
  std::unique_ptr<pcre2_code, Free> code_;
};

// re.fullmatch; re.match is anchored at the beginning alone
constexpr std::uint32_t kWhole = PCRE2_ANCHORED | PCRE2_ENDANCHORED;

bool ends_with_part(const std::string& module, const std::string& name) {
  return module == name || module.ends_with("." + name);
}

std::string lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(),
                 [](unsigned char c) { return static_cast<char>(c >= 'A' && c <= 'Z' ? c + 32 : c); });
  return text;
}

}  // namespace

struct PeftTargets::State {
  std::string path, text;
  std::vector<std::string> names, excluded;
  std::optional<Pattern> pattern, exclusion;
  bool all_linear = false;
  std::optional<std::vector<std::int64_t>> layers;
  std::vector<Pattern> layer_patterns;

  Error::Where place(const char* field) const { return json_place(path, text, std::string("/") + field); }
  [[noreturn]] void refuse(const char* field, const Json& value, const char* expected,
                           const char* fix = "save the adapter again") const {
    throw Error(ErrorKind::bad_input, place(field),
                std::string("'") + field + "' is " + shown(value) + ", expected " + expected, fix);
  }
  std::vector<std::string> strings(const char* field, const Json& value) const {
    std::vector<std::string> out;
    for (const Json& item : value) {
      if (!item.is_string()) refuse(field, value, "text or a list of it");
      out.push_back(item);
    }
    return out;
  }

  void read_targets(const Json& value) {
    if (value.is_null()) names = {"q_proj", "v_proj"};
    else if (value.is_array()) names = strings("target_modules", value);
    else if (!value.is_string()) refuse("target_modules", value, "text or a list of it");
    else if (lower(value) == "all-linear") all_linear = true;
    else pattern.emplace(value.get<std::string>(), kWhole, place("target_modules"), "target_modules");
  }
  void read_exclusions(const Json& value) {
    if (value.is_null() || value.empty()) return;
    if (value.is_array()) excluded = strings("exclude_modules", value);
    else if (!value.is_string()) refuse("exclude_modules", value, "text or a list of it");
    else if (!value.get<std::string>().empty())
      exclusion.emplace(value.get<std::string>(), kWhole, place("exclude_modules"), "exclude_modules");
  }
  void read_layers(const Json& chosen, const Json& patterns) {
    constexpr const char* kBeside = "nothing beside a target_modules that is one text";
    constexpr const char* kList = "remove it, or list the modules in target_modules";
    if (pattern || all_linear) {
      if (!chosen.is_null()) refuse("layers_to_transform", chosen, kBeside, kList);
      if (!patterns.is_null()) refuse("layers_pattern", patterns, kBeside, kList);
    }
    const bool patterns_given = !patterns.is_null() && patterns != "" && patterns != Json::array();
    if (chosen.is_null() && patterns_given)
      refuse("layers_pattern", patterns, "layers_to_transform beside it, as PEFT 0.21.2 does",
             "say which layers, or remove it");
    if (chosen.is_null() || (chosen.is_array() && chosen.empty())) return;
    layers.emplace();
    for (const Json& layer : chosen.is_array() ? chosen : Json::array({chosen})) {
      if (!layer.is_number_integer()) refuse("layers_to_transform", chosen, "a number or a list of numbers");
      layers->push_back(layer);
    }
    std::vector<std::string> texts;
    if (patterns.is_string() && !patterns.get<std::string>().empty()) texts = {patterns};
    else if (patterns.is_array()) texts = strings("layers_pattern", patterns);
    else if (!patterns.is_null() && !patterns.is_string()) refuse("layers_pattern", patterns, "text or a list of it");
    if (texts.empty())
      layer_patterns.emplace_back(R"(.*?\.[^.]*\.(?P<idx>\d+)\.)", PCRE2_ANCHORED, place("layers_pattern"),
                                  "layers_pattern");
    for (const std::string& stem : texts)
      layer_patterns.emplace_back(R"((?:^|.*?\.))" + stem + R"(\.(?P<idx>\d+)\.)", PCRE2_ANCHORED,
                                  place("layers_pattern"), "layers_pattern");
  }

  bool in_layers(const std::string& module) const {
    for (const Pattern& one : layer_patterns)
      if (const auto layer = one.match(module))
        return layer->size() < 10 && std::find(layers->begin(), layers->end(), std::stoll(*layer)) != layers->end();
    return false;
  }
};

PeftTargets::PeftTargets(const Json& config, const std::string& path, std::string_view text)
    : state_(std::make_unique<State>()) {
  state_->path = path, state_->text = text;
  const auto field = [&](const char* name) { return config.contains(name) ? config.at(name) : Json(nullptr); };
  state_->read_targets(field("target_modules"));
  state_->read_exclusions(field("exclude_modules"));
  state_->read_layers(field("layers_to_transform"), field("layers_pattern"));
}
PeftTargets::~PeftTargets() = default;
PeftTargets::PeftTargets(PeftTargets&&) noexcept = default;

bool PeftTargets::name(const std::string& module) const {
  const State& s = *state_;
  const auto ends = [&](const std::string& name) { return ends_with_part(module, name); };
  if (s.exclusion && s.exclusion->match(module)) return false;
  if (std::any_of(s.excluded.begin(), s.excluded.end(), ends)) return false;
  if (s.pattern) return s.pattern->match(module).has_value();
  if (s.all_linear) return !ends_with_part(module, "embed_tokens") && !ends_with_part(module, "lm_head");
  // by its whole path, in whatever layer
  if (std::find(s.names.begin(), s.names.end(), module) != s.names.end()) return true;
  return std::any_of(s.names.begin(), s.names.end(), ends) && (!s.layers || s.in_layers(module));
}

namespace {

/// Which field leaves a module out that `config` does not name.
std::string leaving_out(const std::string& module, Json config, const std::string& path) {
  const auto names_it = [&] { return PeftTargets(config, path).name(module); };
  config.erase("exclude_modules");
  if (names_it()) return "exclude_modules of adapter_config.json excludes";
  for (const char* field : {"layers_to_transform", "layers_pattern"}) config.erase(field);
  if (names_it()) return "layers_to_transform of adapter_config.json leaves out";
  return "target_modules of adapter_config.json does not name";
}

}  // namespace

void check_peft_targets(const PeftAdapter& adapter, const std::vector<TensorPtr>& base,
                        std::vector<std::string>& warnings) {
  const std::string path = (adapter.folder / "adapter_config.json").string();
  const PeftTargets targets(adapter.config, path, adapter.config_text);
  const std::string tail = ".weight";
  std::set<std::string> known, named, held;
  for (const TensorPtr& tensor : base) {
    known.insert(tensor->name());
    if (tensor->info().shape.size() != 2 || !tensor->name().ends_with(tail)) continue;
    if (targets.name(tensor->name().substr(0, tensor->name().size() - tail.size()))) named.insert(tensor->name());
  }
  for (const LoraModule& module : adapter.modules) {
    held.insert(module.target);
    if (named.contains(module.target) || !known.contains(module.target)) continue;  // the merge refuses the unknown
    throw Error(
        ErrorKind::bad_input, {.path = adapter.weights.string()},
        "key '" + module.a->name() + "' is of a module that " +
            leaving_out(module.target.substr(0, module.target.size() - tail.size()), adapter.config, path) +
            (named.empty() ? " (it names none of this base)" : ""),
        "PEFT 0.21.2 would pass over it without a word: name the module there, or take the key out of the file");
  }
  std::vector<std::string> missing;
  std::set_difference(named.begin(), named.end(), held.begin(), held.end(), std::back_inserter(missing));
  if (missing.empty()) return;
  const std::string& first = missing.front();
  warnings.push_back("adapter '" + adapter.folder.string() + "': its file lacks " + std::to_string(missing.size()) +
                     (missing.size() == 1 ? " module '" : " modules, the first '") +
                     first.substr(0, first.size() - tail.size()) +
                     "' that its target_modules names: unchanged, as in PEFT 0.21.2");
}

}  // namespace ropewalk::formats
