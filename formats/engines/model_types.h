#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

// What is known of a model type by its name alone. Private to formats.

namespace ropewalk::formats::engines {

/// The names that AutoConfig of transformers 5.23.0 knows, sorted. Any other needs an auto_map.
const std::vector<std::string>& transformers_model_types();
bool transformers_knows(const std::string& model_type);
/// A name of 5.23.0 that 4.57.6, and so every older one, does not know.
bool since_transformers_5(const std::string& model_type);

/// No token is rotated in this class (bert, gpt2, nemotron_h).
bool has_no_rope(const std::string& model_type);
/// Code and keys of its own rotate it (gptj, codegen), and there is no rule for them.
bool has_rope_of_its_own(const std::string& model_type);

/// Its linear layers are Conv1D, whose weights are stored [in, out] (5.23.0: gpt2 and its kin). nullopt: a class that
/// nobody here knows.
std::optional<bool> has_conv1d(const std::string& model_type);
/// A weight of one of those layers, by its name; other classes (gpt_bigcode) have linear layers of the same names.
bool is_conv1d(std::string_view weight);

}  // namespace ropewalk::formats::engines
