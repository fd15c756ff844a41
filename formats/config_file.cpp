#include "formats/config_file.h"

#include <algorithm>
#include <iterator>
#include <limits>

#include "lib/error.h"

namespace ropewalk::formats {
namespace {

/// Every key beside model_type that a rule of engines/ or rope_*.cpp reads for a rope, its context or its window.
constexpr const char* kOfTheRope[] = {
    // all classes, and Gemma 3's layers that slide
    "rope_scaling", "rope_parameters", "rope_theta", "rope_local_base_freq", "max_position_embeddings",
    "original_max_position_embeddings", "partial_rotary_factor", "head_dim", "hidden_size", "num_attention_heads",
    // names of one class each: GPT-NeoX, ChatGLM, latent attention
    "rotary_emb_base", "rotary_pct", "rope_ratio", "rotary_dim", "qk_rope_head_dim", "qk_nope_head_dim",
    // lengths that vLLM and SGLang look for in turn
    "n_positions", "max_seq_len", "seq_length", "model_max_length", "max_target_positions", "max_sequence_length",
    "max_seq_length", "seq_len",
    // which layers have which rope and window
    "layer_types", "sliding_window", "sliding_window_pattern", "max_window_layers"};

/// out[begin, end) stands where JSON has a value: Python takes "NaN" and "-Infinity", and neither "1NaN" nor "-NaN".
bool is_value(const std::string& out, std::size_t begin, std::size_t end) {
  constexpr const char* kBlank = " \t\r\n";
  const std::size_t before = begin == 0 ? std::string::npos : out.find_last_not_of(kBlank, begin - 1),
                    after = out.find_first_not_of(kBlank, end);
  return (before == std::string::npos || std::string_view(":[,").find(out[before]) != std::string_view::npos) &&
         (after == std::string::npos || std::string_view("]},").find(out[after]) != std::string_view::npos);
}

/// Replaces NaN and Infinity outside strings by numbers of the same length, so that places stay.
std::string without_not_finite(const std::string& text, std::vector<std::size_t>& offsets) {
  std::string out = text;
  bool quoted = false;
  for (std::size_t i = 0; i < out.size(); ++i) {
    if (quoted) {
      if (out[i] == '\\') ++i;
      else if (out[i] == '"') quoted = false;
    } else if (out[i] == '"') {
      quoted = true;
    } else if (out.compare(i, 3, "NaN") == 0 && is_value(out, i, i + 3)) {
      offsets.push_back(i);
      out.replace(i, 3, "0.0");
    } else if (const std::size_t from = i > 0 && out[i - 1] == '-' ? i - 1 : i;
               out.compare(i, 8, "Infinity") == 0 && is_value(out, from, i + 8)) {
      offsets.push_back(from);
      out.replace(i, 8, "1.79e308");
    }
  }
  return out;
}

}  // namespace

PythonJson parse_python_json(const std::string& path, std::string text) {
  PythonJson out;
  out.text = without_not_finite(text, out.not_finite);
  out.json = parse_json(path, out.text);
  return out;
}

std::string not_finite_value(const std::string& text, std::size_t offset) {
  const char first = text[offset];
  const char* value = first == '-' ? "-Infinity" : first == '0' ? "NaN" : "Infinity";
  const std::size_t colon = offset == 0 ? std::string::npos : text.find_last_not_of(" \t\r\n", offset - 1);
  if (colon == std::string::npos || text[colon] != ':') return std::string("an entry is ") + value;
  const std::size_t end = text.rfind('"', colon), begin = end == 0 ? end : text.rfind('"', end - 1);
  return text.substr(begin + 1, std::min<std::size_t>(end - begin - 1, 60)) + " is " + value;
}

bool in_rope(const std::string& text, const Json& json, std::size_t offset) {
  const std::string model = model_part(json).pointer;
  for (const char* key : kOfTheRope) {
    const std::optional<std::size_t> at = locate_offset(text, model + "/" + key);
    if (at && offset >= *at && offset < end_of_value(text, *at)) return true;
  }
  return false;
}

TextPosition position_of(const std::string& text, std::size_t offset) {
  const std::string_view before = std::string_view(text).substr(0, offset),
                         line = before.substr(before.rfind('\n') + 1);
  const auto begins = [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; };  // a character of UTF-8
  return {1 + int(std::count(before.begin(), before.end(), '\n')),
          1 + int(std::count_if(line.begin(), line.end(), begins))};
}

void refuse_not_finite(const std::string& path, const PythonJson& read) {
  for (const std::size_t offset : read.not_finite)
    if (in_rope(read.text, read.json, offset)) {
      const TextPosition at = position_of(read.text, offset);
      throw Error(ErrorKind::bad_input, {.path = path, .line = at.line, .column = at.column},
                  not_finite_value(read.text, offset) + ", a number was expected", "write the number");
    }
}

void require_model_config(const std::string& path, const Json& json) {
  // any of them: what is broken or cut down is still to be judged
  constexpr const char* kOfAModel[] = {"model_type",      "hidden_size", "text_config",
                                       "rope_parameters", "rope_theta",  "rope_scaling",
                                       "architectures",   "head_dim",    "max_position_embeddings"};
  if (!json.is_object() ||
      std::none_of(std::begin(kOfAModel), std::end(kOfAModel), [&](const char* key) { return json.contains(key); }))
    throw Error(ErrorKind::bad_input, {.path = path}, "is no config.json: neither model_type nor hidden_size is there",
                "give a model's folder or its config.json");
}

ModelPart model_part(const Json& config) {
  if (config.is_object() && !config.contains("hidden_size"))
    if (const auto text = config.find("text_config"); text != config.end() && text->is_object())
      return {&*text, "/text_config"};
  return {&config, ""};
}

std::optional<int> tokenizer_limit(const Json& tokenizer_config) {
  if (!tokenizer_config.is_object()) return std::nullopt;
  const auto limit = tokenizer_config.find("model_max_length");
  if (limit == tokenizer_config.end() || !limit->is_number()) return std::nullopt;
  const double n = limit->get<double>();
  return n >= 1 && n < std::numeric_limits<int>::max() ? std::optional(int(n)) : std::nullopt;
}

bool limit_follows(double limit, int before, int context) {
  return limit < context || (limit == before && context < before);
}

}  // namespace ropewalk::formats
