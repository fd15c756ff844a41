#pragma once

#include <optional>
#include <string>
#include <vector>

#include "formats/json.h"

namespace ropewalk::formats {

/// Error(bad_input) for JSON that says nothing of a model (tokenizer_config.json, generation_config.json, an adapter's,
/// an index): read as a model's config.json it would be one without faults.
void require_model_config(const std::string& path, const Json& json);

/// JSON as Python's parser takes it, with NaN, Infinity and -Infinity: in `json` and `text` 0, 1.79e308 and -1.79e308
/// stand for them, of the same length, and their offsets are in not_finite.
struct PythonJson {
  std::string text;
  Json json;
  std::vector<std::size_t> not_finite;
};
/// Error(bad_input) for what Python refuses too, and for keys that stand twice (parse_json).
PythonJson parse_python_json(const std::string& path, std::string text);
/// "factor is -Infinity", as the file had it.
std::string not_finite_value(const std::string& text, std::size_t offset);
/// The value there is one that the rope of any class is made of, the context or the window.
bool in_rope(const std::string& text, const Json& json, std::size_t offset);
/// Line and column of an offset of the text, as locate counts them.
TextPosition position_of(const std::string& text, std::size_t offset);
/// Error(bad_input) with line and column for the first value that is not finite and that the rope is made of.
void refuse_not_finite(const std::string& path, const PythonJson& read);

/// The language model's part of a config.json: its text_config where the file of a multi-modal model has no width of
/// its own, else the file. Holds a pointer into `config`.
struct ModelPart {
  const Json* json;
  std::string pointer;  // "/text_config", or ""
  bool nested() const { return !pointer.empty(); }
};
ModelPart model_part(const Json& config);

/// model_max_length of a tokenizer_config.json; nullopt where it is no number of tokens (1e30 stands for none).
std::optional<int> tokenizer_limit(const Json& tokenizer_config);
/// Whether such a limit becomes `context` where the context served becomes that, from `before`: it is less, or the old
/// context, which is lowered.
bool limit_follows(double limit, int before, int context);

}  // namespace ropewalk::formats
