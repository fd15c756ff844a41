#include "formats/lint/linter.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "formats/config_file.h"
#include "formats/engines/flags.h"
#include "formats/rope_fields.h"
#include "formats/rope_meaning.h"
#include "lib/error.h"
#include "lib/plural.h"

namespace ropewalk::formats::linting {
namespace {

bool holds_anything(const Json& value) {
  if (value.is_null()) return false;
  if (value.is_boolean()) return value.get<bool>();
  if (value.is_number()) return value.get<double>() != 0;
  return !value.empty();
}

std::optional<double> finite(const Json* value) {
  if (!value || !value->is_number()) return std::nullopt;
  const double n = value->get<double>();
  return std::isfinite(n) ? std::optional(n) : std::nullopt;
}

std::string text_of(const Json* value) { return value && value->is_string() ? value->get<std::string>() : ""; }

/// A whole number of tokens; 0 if it is none.
int tokens_of(std::optional<double> n) { return n && *n >= 1 && *n <= std::numeric_limits<int>::max() ? int(*n) : 0; }

/// Of architectures whose rules were not compared, what ExLlama does is not known at all.
std::vector<EngineVersion> newest_of_each(bool compared) {
  std::vector<EngineVersion> all = newest_engines();
  if (!compared)
    std::erase_if(all, [](const EngineVersion& one) {
      return one.engine == Engine::exllamav2 || one.engine == Engine::exllamav3;
    });
  return all;
}

}  // namespace

const Json* RopeDict::find(const char* key) const {
  const auto found = json->find(key);
  return found == json->end() ? nullptr : &*found;
}
std::optional<double> RopeDict::number(const char* key) const { return finite(find(key)); }

bool same_frequencies(const std::vector<double>& a, const std::vector<double>& b, double* ratio, int* pair) {
  double worst = 1;
  int at = 0;
  const std::size_t n = std::max(a.size(), b.size());
  for (std::size_t i = 0; i < n; ++i) {
    const double x = i < a.size() ? a[i] : 0, y = i < b.size() ? b[i] : 0;
    double r = 1;
    if (x != y) r = x == 0 || y == 0 ? std::numeric_limits<double>::infinity() : std::max(x / y, y / x);
    if (!(r <= worst)) worst = r, at = int(i);
  }
  if (ratio) *ratio = worst;
  if (pair) *pair = at;
  return worst <= 1 + kSameRope;
}

Json edited(const Json& json, const std::vector<JsonEdit>& edits) {
  Json out = json;
  for (const JsonEdit& edit : edits) out[Json::json_pointer(edit.pointer)] = edit.value;
  return out;
}

Linter::Linter(const LintInput& input_, const LintOptions& options_)
    : input(input_),
      options(options_),
      file(*input_.config),
      model(*model_part(file.json).json),
      prefix(model_part(file.json).pointer),
      model_type(text_of(find("model_type"))),
      compared(compared_model_type(file.json)),
      engines(options.engines.empty() ? newest_of_each(compared) : options.engines) {
  if (const auto type = model.find("model_type"); type != model.end()) model_type = text_of(&*type);
  if (input.tokenizer_config && input.tokenizer_config->not_finite.empty())
    told.tokenizer_limit = tokenizer_limit(input.tokenizer_config->json);
  collect_dictionaries();
  context = tokens_of(number("max_position_embeddings"));
  for (const EngineVersion& engine : engines) readings.push_back(read_as(engine, file.json));
  if (options.engines.empty())  // an engine that has no such architecture says nothing about the file
    for (std::size_t i = engines.size(); i-- > 0;)
      if (readings[i].error && readings[i].error->pointer.ends_with("/model_type")) {
        engines.erase(engines.begin() + std::ptrdiff_t(i));
        readings.erase(readings.begin() + std::ptrdiff_t(i));
      }
  reference = read_as(newest(Engine::transformers), file.json);
  declare();
}

const Json* Linter::find(const char* key) const {
  if (const auto found = model.find(key); found != model.end()) return &*found;
  if (const auto found = file.json.find(key); found != file.json.end()) return &*found;
  return nullptr;
}
std::optional<double> Linter::number(const char* key) const { return finite(find(key)); }

void Linter::collect_dictionaries() {
  bool taken = false;
  for (const char* key : {"rope_scaling", "rope_parameters"}) {
    const auto value = model.find(key);
    if (value == model.end() || !holds_anything(*value)) continue;
    if (value->is_object()) {
      const auto kind = [](const std::string& name, const Json& inner) {  // a type that is an object is a slip (R04)
        return inner.is_object() && !is_rope_key(name);
      };
      bool nested = false;
      for (const auto& item : value->items()) nested = nested || kind(item.key(), item.value());
      const auto add_one = [&](const std::string& pointer, const Json& json, const std::string& layer) {
        RopeDict dict{pointer, &json, layer, !taken, "", key};
        const std::string modern = text_of(dict.find("rope_type"));
        dict.type = !modern.empty() ? modern : text_of(dict.find("type"));
        dicts.push_back(dict);
      };
      if (!nested) add_one(at(key), *value, "");
      else
        for (const auto& item : value->items())
          if (kind(item.key(), item.value()))
            add_one(at(key) + "/" + pointer_segment(item.key()), item.value(), item.key());
    }
    taken = true;
  }
}

const RopeDict* Linter::flat() const {
  for (const RopeDict& dict : dicts)
    if (dict.read && dict.layer.empty()) return &dict;
  return nullptr;
}

bool Linter::scaled() const {
  return std::any_of(dicts.begin(), dicts.end(), [](const RopeDict& dict) {
    return dict.read && !dict.type.empty() && dict.type != "default" && dict.type != "mrope";
  });
}

bool Linter::latent() const { return find("qk_rope_head_dim") || find("kv_lora_rank"); }

int Linter::head_dim() const {
  if (const int given = tokens_of(number("head_dim"))) return given;
  if (const int rope = tokens_of(number("qk_rope_head_dim"))) return rope;
  const int hidden = tokens_of(number("hidden_size")), heads = tokens_of(number("num_attention_heads"));
  return heads > 0 ? hidden / heads : 0;
}

void Linter::declare() {
  std::optional<RopeMeaning> meaning;
  try {
    meaning = read_rope_meaning(file.path, file.text, file.json);
  } catch (const Error& error) {  // the rules say what is wrong; what transformers makes of it is all there is
    refused = error;
    meaning = lenient_rope_meaning(file.json);
  }
  remote = yarn_remote_code(file.json);
  wanted = options.context.value_or(meaning ? meaning->rope.context : context);
  if (!meaning) return;
  for (WantedLayer& layer : meaning->rope.layers) {
    declared.emplace_back();
    declared.back().layer_type = layer.layer_type;
    declared.back().spec = std::move(layer.spec);
  }
  declared_by = meaning->remote_code ? *meaning->remote_code + ".py" : meaning->by;
}

bool Linter::fails(const EngineReading& reading) { return reading.error && reading.error->kind != kNotFollowed; }

Difference Linter::difference(const EngineReading& reading) const {
  Difference worst;
  if (reading.error || declared.empty()) return worst;
  int length = std::max(wanted, 1);
  if (!options.context && reading.context && *reading.context > 0) length = std::min(length, *reading.context);
  for (const EngineRope& mean : declared)
    for (const EngineRope& rope : reading.ropes) {
      if (!mean.layer_type.empty() && !rope.layer_type.empty() && mean.layer_type != rope.layer_type) continue;
      if (rope.spec.rotary_dim > 4096 || mean.spec.rotary_dim > 4096) continue;
      const RopeTable want = rope_table(mean.spec, length), got = rope_table(rope.spec, length);
      double ratio = 1;
      int pair = 0;
      if (!same_frequencies(got.inv_freq, want.inv_freq, &ratio, &pair) && ratio > worst.ratio) {
        worst.frequencies = true, worst.ratio = ratio, worst.pair = pair, worst.rope = &rope,
        worst.kind = mean.layer_type;
      }
      if (!(std::abs(got.attention_factor - want.attention_factor) <= kSameRope * std::abs(want.attention_factor)) &&
          !worst.attention) {
        worst.attention = true;
        worst.attention_factor = got.attention_factor, worst.declared_attention_factor = want.attention_factor;
        if (!worst.rope) worst.rope = &rope;
      }
    }
  return worst;
}

EngineReading Linter::read_changed(const EngineVersion& engine, const std::vector<JsonEdit>& edits) const {
  return read_as(engine, edited(file.json, edits));
}

std::string Linter::names(const std::vector<std::size_t>& which) const {
  std::vector<std::string> titles;
  for (const std::size_t engine : which) titles.push_back(engines[engine].title());
  return listed(titles);
}

bool Linter::has_error() const {
  return std::any_of(findings_.begin(), findings_.end(),
                     [](const Finding& one) { return one.severity == Severity::error; });
}

void Linter::explain_all() {
  contradictory_ = true;
  for (std::size_t i = 0; i < engines.size(); ++i)
    for (const Aspect aspect : {Aspect::load, Aspect::frequencies, Aspect::attention, Aspect::context})
      explain(i, aspect);
}

Severity Linter::by_engine(const std::vector<std::size_t>& hurt) const {
  if (!options.engines.empty()) return Severity::error;
  return hurt.size() == engines.size() ? Severity::error : Severity::warning;
}

Finding& Linter::add_in(const LintFile& other, std::string_view rule, Severity severity, const std::string& pointer,
                        std::string message, std::string fix) {
  Finding finding;
  finding.rule = rule;
  finding.severity = severity;
  finding.file = other.path;
  finding.pointer = pointer;
  finding.message = std::move(message);
  finding.fix = std::move(fix);
  TextPosition place = locate(other.text, pointer);
  for (std::string up = pointer; place.line == 0 && !up.empty();) {  // a member that is not there: its object
    up.resize(up.rfind('/'));
    place = locate(other.text, up);
  }
  finding.line = std::max(place.line, 1), finding.column = std::max(place.column, 1);
  findings_.push_back(std::move(finding));
  return findings_.back();
}
Finding& Linter::add(std::string_view rule, Severity severity, const std::string& pointer, std::string message,
                     std::string fix) {
  return add_in(file, rule, severity, pointer, std::move(message), std::move(fix));
}
Finding& Linter::add(std::string_view rule, const std::string& pointer, std::string message, std::string fix) {
  return add(rule, find_lint_rule(rule)->severity, pointer, std::move(message), std::move(fix));
}
Finding& Linter::add_for(std::string_view rule, const std::vector<std::size_t>& hurt, const std::string& pointer,
                         std::string message, std::string fix, Severity most) {
  // what an engine computes for a model type that was not compared is a guess; lengths and linear's integer are read
  // before the model's class matters
  if (!compared && rule != "E04" && rule != "R20") most = std::min(most, Severity::warning);
  if (options.engines.empty()) most = std::min(most, find_lint_rule(rule)->severity);
  Finding& finding = add(rule, std::min(by_engine(hurt), most), pointer, std::move(message), std::move(fix));
  for (const std::size_t engine : hurt) {
    finding.engines.push_back(engines[engine].title());
    if (const std::string& line = flags_of(engine); !line.empty())
      finding.flags.push_back({engines[engine].title(), line});
  }
  return finding;
}

const EngineFlags& Linter::rope_flags(std::size_t engine) {
  const auto [at, added] = flags_.try_emplace(engine);
  if (!added || declared.empty() || wanted <= 0) return at->second;
  WantedRope rope;
  for (const EngineRope& one : declared) rope.layers.push_back({one.layer_type, one.spec});
  rope.context = wanted;
  return at->second = engine_flags(engines[engine], &file.json, rope, told);
}

std::string Linter::flags_with(std::size_t engine, const std::string& key, const Json& value) {
  const EngineFlags& rope = rope_flags(engine);
  if (!rope.possible) return "";
  const std::optional<FlagSet> flags = also_override(engines[engine], file.json, rope.flags, key, value);
  return flags ? flags_line(engines[engine], *flags) : "";
}

/// Lengths are factor x original context: while a finding doubts that, no fix names one, nor a rope made of it.
void Linter::settle_original_first() {
  if (options.context || wanted <= 0) return;
  for (const bool original : {true, false}) {
    const auto open = std::find_if(findings_.begin(), findings_.end(), [&](const Finding& one) {
      return original ? one.doubts_original : leaves_length_open(one);
    });
    if (open == findings_.end()) continue;
    const std::string rule(open->rule);
    for (Finding& one : findings_) {
      const bool rewrites = original && rule == "R09" && (one.rule == "E02" || one.rule == "E03");
      if (one.length != wanted && !rewrites) continue;
      one.fix = "settle " + rule + " first: " +
                (rewrites   ? "which original context is meant decides who is wrong"
                 : original ? "the length follows from the original context"
                            : "it decides which length is served");
      one.flags.clear();
    }
    return;
  }
}

std::vector<Finding> Linter::take() {
  std::set<std::pair<int, int>> places;  // of what is no number; the finding that says so is the first there
  for (const std::size_t offset : no_numbers_) {
    const TextPosition place = position_of(file.text, offset);
    places.insert({place.line, place.column});
  }
  std::set<std::pair<int, int>> said;
  std::erase_if(findings_, [&](const Finding& one) {
    const std::pair place(one.line, one.column);
    return one.file == file.path && places.contains(place) && !said.insert(place).second;
  });
  settle_original_first();
  if (contradictory_)
    for (Finding& one : findings_) one.flags.clear();
  return std::move(findings_);
}

}  // namespace ropewalk::formats::linting
