#include "formats/adapters/adapter_origin.h"

#include "formats/adapters/training_files.h"
#include "formats/hf_config.h"
#include "formats/json.h"
#include "formats/json_fields.h"
#include "lib/error.h"
#include "lib/file.h"
#include "lib/rope.h"

namespace ropewalk::formats {
namespace {

namespace fs = std::filesystem;

// A tokenizer that knows no limit has 1e30 there; what is below 2^30 is meant as one.
constexpr double kMostTokens = 0x1p30;

std::string rope_in_words(const ModelConfig& config) {
  return describe(config.rope) + " for " + std::to_string(config.context) + " tokens";
}
bool same_rope(const ModelConfig& a, const ModelConfig& b) { return rope_in_words(a) == rope_in_words(b); }

/// Whether a config.json says anything of a rope, rather than of its quantization alone.
bool describes_model(const Json& config) { return config.is_object() && config.contains("max_position_embeddings"); }

struct Described {
  Json json;
  ModelConfig config;
};
Described read_config(const fs::path& path) {
  const std::string text = read_text_file(path, JsonLimits{}.max_bytes);
  Described out{parse_json(path.string(), text), {}};
  std::vector<std::string> ignored;  // of a file that nothing is made from
  if (describes_model(out.json)) out.config = read_hf_config(path.string(), text, out.json, ignored);
  return out;
}

/// The SPEC that gives the base the rope of that file; empty: a plain one needs no method.
std::string spec_of(const Json& config) {
  for (const char* key : {"rope_parameters", "rope_scaling"})
    if (config.contains(key) && config[key].is_object() && !config[key].empty()) return config[key].dump();
  return "";
}

/// What the arguments of a trainer say that the base does not: longer texts than it serves, or another method.
void compare_training(const fs::path& folder, const std::string& whose, const ModelConfig& base,
                      std::vector<std::string>& lines) {
  for (const TrainingFile& file : training_files(folder)) {
    if (!file.problem.empty()) {
      lines.push_back(whose + "the context and rope of " + file.name + " beside it were not compared: " + file.problem);
      continue;
    }
    if (file.tokens && *file.tokens > base.context)
      lines.push_back(whose + file.name + " beside it has " + file.field + " " + std::to_string(*file.tokens) +
                      ", the model merged into is made for " + std::to_string(base.context) +
                      " tokens, which is kept: +rope= extends it");
    const std::string method = file.rope_method ? *file.rope_method : "";
    if (!method.empty() && method != rope_method_name(base.rope))
      lines.push_back(whose + file.name + " beside it has the rope_scaling " + shown(Json(method)) +
                      "; the model merged into has " + rope_in_words(base) +
                      ", which is kept: if it was trained with that rope, add it, +rope=SPEC");
  }
}

}  // namespace

std::vector<std::string> beside_adapter(const PeftAdapter& adapter, const ModelConfig& base) {
  std::vector<std::string> lines;
  const fs::path config = adapter.folder / "config.json", tokenizer = adapter.folder / "tokenizer_config.json";
  const std::string whose = "adapter '" + adapter.folder.string() + "': ";
  if (is_there(config)) try {
      const Described trained = read_config(config);
      if (describes_model(trained.json) && !same_rope(trained.config, base)) {
        const std::string spec =
            std::holds_alternative<RopeUnscaled>(trained.config.rope.scaling) ? "" : spec_of(trained.json);
        lines.push_back(whose + "config.json beside it is of another rope, " + rope_in_words(trained.config) +
                        "; the model merged into has " + rope_in_words(base) + ", which is kept" +
                        (spec.empty() ? ": merge into the model it was trained on, if that was another"
                                      : ": if it was trained with its own, add +rope='" + spec + "'"));
      }
    } catch (const Error& error) {
      lines.push_back(whose + "the rope of config.json beside it was not compared: " + error.what());
    }
  if (is_there(tokenizer)) try {
      const Json json = read_json(tokenizer);
      const Json limit = json.is_object() ? json.value("model_max_length", Json()) : Json();
      if (limit.is_number() && limit.get<double>() > base.context && limit.get<double>() < kMostTokens)
        lines.push_back(whose + "tokenizer_config.json beside it is made for " + limit.dump() +
                        " tokens, the model merged into for " + std::to_string(base.context) +
                        ", which is kept: +rope= extends it");
    } catch (const Error&) {
      // the tokenizer's own reader says what is wrong with it, where it is used
    }
  compare_training(adapter.folder, whose, base, lines);
  return lines;
}

std::string base_differences(const std::optional<fs::path>& named, const ModelConfig& base) {
  if (!named || !is_there(*named / "config.json")) return "not found here, so ropes and vocabularies were not compared";
  try {
    const Described trained = read_config(*named / "config.json");
    if (!describes_model(trained.json)) return "ropes and vocabularies were not compared";
    std::string out;
    if (!same_rope(trained.config, base))
      out = "its rope is " + rope_in_words(trained.config) + ", not " + rope_in_words(base);
    if (trained.config.n_vocab != base.n_vocab)
      out += (out.empty() ? "" : "; ") + std::string("its vocabulary has ") + std::to_string(trained.config.n_vocab) +
             " rows, not " + std::to_string(base.n_vocab);
    return out.empty() ? "of the same rope and size of vocabulary" : out;
  } catch (const Error& error) {
    return std::string("its rope and vocabulary were not compared: ") + error.what();
  }
}

}  // namespace ropewalk::formats
