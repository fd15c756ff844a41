#include "formats/engines/python.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "formats/engines/model_types.h"
#include "formats/rope_fields.h"

namespace ropewalk::formats::engines {

void raise(std::string kind, std::string text, std::string pointer) {
  throw Raised{{std::move(kind), std::move(text), std::move(pointer)}};
}

void not_followed(const std::string& why, const std::string& pointer) { raise(kNotFollowed, why, pointer); }

std::string python_type(const Json& value) {
  if (value.is_null()) return "NoneType";
  if (value.is_boolean()) return "bool";
  if (value.is_number_float()) return "float";
  if (value.is_number()) return "int";
  if (value.is_string()) return "str";
  return value.is_array() ? "list" : "dict";
}

std::string python_repr(const Json& value) {
  if (value.is_null()) return "None";
  if (value.is_boolean()) return value.get<bool>() ? "True" : "False";
  if (value.is_string()) return "'" + value.get<std::string>().substr(0, 60) + "'";
  if (value.is_object()) {
    std::string out;
    for (const auto& item : value.items()) {
      if (out.size() > 300) return "{" + out + ", ...}";
      out += (out.empty() ? "'" : ", '") + item.key().substr(0, 60) +
             "': " + (item.value().size() > 8 ? "[...]" : python_repr(item.value()));
    }
    return "{" + out + "}";
  }
  return value.dump().substr(0, 200);
}

std::string python_str(const Json& value) {
  return value.is_string() ? value.get<std::string>().substr(0, 60) : python_repr(value);
}

bool truthy(const Json& value) {
  if (value.is_null()) return false;
  if (value.is_boolean()) return value.get<bool>();
  if (value.is_number()) return value.get<double>() != 0;
  if (value.is_string()) return !value.get_ref<const std::string&>().empty();
  return !value.empty();
}

double number(const Value& value, const std::string& type_error) {
  if (value.json.is_boolean()) return value.json.get<bool>() ? 1 : 0;
  if (value.json.is_number()) return value.json.get<double>();
  std::string text = type_error;
  if (const std::size_t at = text.find("{type}"); at != std::string::npos) text.replace(at, 6, python_type(value.json));
  raise("TypeError", text, value.pointer);
}

int channels(double n, const std::string& pointer) {
  if (!(n >= 0 && n <= kMostChannels)) not_followed("a width of " + Json(n).dump() + " channels", pointer);
  return int(n);
}

int tokens(const Value& value, const std::string& type_error) {
  const double n = number(value, type_error);
  if (n == 0) raise("ZeroDivisionError", "float division by zero", value.pointer);
  if (!(n >= 1 && n <= std::numeric_limits<int>::max() && n == std::floor(n)))
    not_followed(
        "a context of " + python_repr(value.json) + " tokens: a whole number from 1 to 2147483647 was expected",
        value.pointer);
  return int(n);
}

int logged_tokens(const Value& value, const std::string& type_error) {
  if (value.json.is_number() && value.json.get<double>() <= 0) raise("ValueError", "math domain error", value.pointer);
  return tokens(value, type_error);
}

int nominal_tokens(Walk& walk, const Value& value, const std::string& type_error) {
  constexpr int kMost = std::numeric_limits<int>::max();
  if (!value.json.is_number_integer()) return tokens(value, type_error);
  const double n = value.json.get<double>();  // Json compares 2^63 and above with an int as if they were negative
  if (n >= 1 && n <= kMost) return tokens(value, type_error);
  if (n <= 0) return 0;
  walk.notice(value.pointer.substr(value.pointer.rfind('/') + 1) + " is " + value.json.dump() +
                  ", of which ropewalk counts " + std::to_string(kMost) + " tokens",
              value.pointer);
  return kMost;
}

// ---------------------------------------------------------------------------------------------------------------------

Dict::Dict(const Json& object, const std::string& where) : pointer(where) {
  for (const auto& item : object.items())
    entries_.push_back({item.key(), {item.value(), where + "/" + pointer_segment(item.key())}});
}

const Value* Dict::find(const std::string& key) const {
  for (const auto& [name, value] : entries_)
    if (name == key) return &value;
  return nullptr;
}

void Dict::set(const std::string& key, Value value) {
  for (auto& [name, old] : entries_)
    if (name == key) {
      old = std::move(value);
      return;
    }
  entries_.push_back({key, std::move(value)});
}

void Dict::set_default(const std::string& key, Value value) {
  if (!contains(key)) set(key, std::move(value));
}

// ---------------------------------------------------------------------------------------------------------------------

Walk::Walk(const EngineVersion& which, const Json& config, const EngineOptions& asked)
    : engine(which), options(asked), whole_(config), model_(model_part(config)) {}

const Json* Walk::raw(const std::string& key) const {
  if (!model_.json->is_object()) return nullptr;
  const auto found = model_.json->find(key);
  return found == model_.json->end() ? nullptr : &*found;
}

Value Walk::get(const std::string& key, const Json& otherwise) const {
  const Json* found = raw(key);
  if (!found) return defaulted(otherwise);
  return {*found, pointer_to(key)};
}

int Walk::positive_int(const std::string& key) const {
  const Json* found = raw(key);
  if (!found) not_followed("the file has no " + key, "");
  if (!found->is_number_integer() || *found <= 0 || *found > std::numeric_limits<int>::max())
    not_followed(key + " is " + python_repr(*found) + ", a whole number above 0 was expected", pointer_to(key));
  return found->get<int>();
}

std::string Walk::model_type() const {
  const Json* found = raw("model_type");
  return found && found->is_string() ? found->get<std::string>() : "";
}

std::string Walk::asked_type() const {
  if (!nested()) return model_type();
  const auto found = whole_.find("model_type");
  return found != whole_.end() && found->is_string() ? found->get<std::string>() : "";
}

bool Walk::unknown_class() const {
  const std::string type = model_type();
  return !nested() && !has("auto_map") && !type.empty() && !transformers_knows(type);
}

void Walk::notice_unused() {
  const auto unread = [&](const std::string& pointer) {
    if (!used_.count(pointer)) notice(engine.title() + " does not read " + pointer.substr(1), pointer);
  };
  const auto members = [&](auto&& self, const Json& dict, const std::string& pointer) -> void {
    for (const auto& item : dict.items()) {
      const std::string at = pointer + "/" + pointer_segment(item.key());
      if (item.value().is_object()) self(self, item.value(), at);
      else if (item.key() != "type" && item.key() != "rope_type" && item.key() != "finetuned")
        unread(at);  // finetuned: no rule anywhere, no harm
    }
  };
  for (const char* key : {"rope_scaling", "rope_parameters"})
    if (const Json* dict = raw(key); dict && dict->is_object()) {
      std::size_t before = notices_.size();
      members(members, *dict, pointer_to(key));
      if (notices_.size() - before > 1 && notices_.size() - before >= dict->size() -
                                                                          std::size_t(dict->contains("rope_type")) -
                                                                          std::size_t(dict->contains("type"))) {
        notices_.resize(before);  // nothing of it was read: say so once
        notice(engine.title() + " does not read " + pointer_to(key).substr(1), pointer_to(key));
      }
    }
  for (const char* key :
       {"rope_theta", "partial_rotary_factor", "original_max_position_embeddings", "rope_local_base_freq"})
    if (const Json* value = raw(key); value && !value->is_null()) unread(pointer_to(key));
}

// ---------------------------------------------------------------------------------------------------------------------

namespace {

void check_factor(double value, const char* what) {
  if (!(value > 0 && std::isfinite(value)))
    not_followed(std::string(what) + " " + Json(value).dump() + " makes frequencies that are no rotation", "");
}

struct Check {
  int pairs;
  void operator()(const RopeUnscaled&) const {}
  void operator()(const RopeLinear& s) const { check_factor(s.factor, "a factor of"); }
  void operator()(const RopeNtk& s) const { check_factor(s.alpha, "an alpha of"); }
  void operator()(const RopeDynamic& s) const { check_factor(s.factor, "a factor of"); }
  void operator()(const RopeNtkByParts& s) const { check_factor(s.factor, "a factor of"); }
  void operator()(const RopeYarn& s) const {
    check_factor(s.factor, "a factor of"), check_factor(s.beta_fast, "a beta_fast of"),
        check_factor(s.beta_slow, "a beta_slow of");
  }
  void operator()(const RopeDynamicYarn&) const {}
  void operator()(const RopeLlama3& s) const {
    check_factor(s.factor, "a factor of"), check_factor(s.low_freq_factor, "a low_freq_factor of"),
        check_factor(s.high_freq_factor, "a high_freq_factor of");
  }
  void operator()(const RopeLongrope& s) const {
    for (const auto* list : {&s.short_factor, &s.long_factor}) {
      if (list->size() != std::size_t(pairs))
        raise("RuntimeError", "The size of tensor a (" + std::to_string(list->size()) +
                                  ") must match the size of tensor b (" + std::to_string(pairs) +
                                  ") at non-singleton dimension 0");
      for (double value : *list) {
        check_factor(value, "a short or long factor of");
        if (value > double(std::numeric_limits<float>::max()))
          not_followed("a short or long factor of " + Json(value).dump() + ", which float32 does not hold", "");
      }
    }
  }
  void operator()(const RopeProportional& s) const { check_factor(s.factor, "a factor of"); }
};

}  // namespace

EngineRope Draft::finish() {
  RopeSpec& spec = rope.spec;
  if (spec.rotary_dim < 2 || spec.rotary_dim % 2 != 0 || spec.rotary_dim > kMostChannels)
    not_followed(std::to_string(spec.rotary_dim) + " channels of a head rotate: an even number from 2 was expected",
                 "");
  if (!(spec.theta > 0 && std::isfinite(spec.theta)))
    not_followed("a base of " + Json(spec.theta).dump() + ": a number above 0 was expected", "");
  std::visit(Check{spec.rotary_dim / 2}, spec.scaling);
  if (std::holds_alternative<RopeYarn>(spec.scaling) && spec.theta == 1)
    raise("ZeroDivisionError", "float division by zero");
  if (!spec.attention_factor) spec.attention_factor = rope_table(spec, 1).attention_factor;
  if (!std::isfinite(*spec.attention_factor)) not_followed("an attention factor that is not finite", "");
  if (const auto fault = frequency_fault(spec)) not_followed(fault->problem, pointer_of(spec, fault->field));
  return rope;
}

}  // namespace ropewalk::formats::engines
