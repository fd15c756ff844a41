#include "formats/adapters/training_files.h"

#include <array>

#include "formats/json.h"
#include "formats/torch/saved_object.h"
#include "formats/yaml_front_matter.h"
#include "lib/error.h"
#include "lib/file.h"

namespace ropewalk::formats {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kMostBytes = std::uint64_t{1} << 20;
/// None says no limit; past it a number is meant as one.
constexpr std::int64_t kMostTokens = std::int64_t{1} << 30;
constexpr std::array kLengths = {"max_length", "max_seq_length", "model_max_length", "cutoff_len", "sequence_len"};
constexpr std::array kFiles = {"README.md", "args.json", "training_args.bin", "training_args.json",
                               "training_args.yaml"};

Json read_yaml(const fs::path& path, const std::string& text) {
  const std::optional<Json> read = parse_front_matter("---\n" + text + "\n---\n");
  if (!read)
    throw Error(ErrorKind::unsupported, {.path = path.string()}, "uses YAML past mappings, lists and scalars",
                "write it plainly, or remove it");
  return *read;
}

/// The YAML that axolotl puts into a card; null for any other card.
Json read_card(const fs::path& path) {
  const std::string text = read_text_file(path, kMostBytes);
  constexpr std::string_view kSummary = "<summary>See axolotl config</summary>", kFence = "```yaml\n";
  const std::size_t summary = text.find(kSummary);
  if (summary == std::string::npos) return nullptr;
  const std::size_t fence = text.find(kFence, summary);
  if (fence == std::string::npos) return nullptr;
  const std::size_t begin = fence + kFence.size(), end = text.find("\n```", begin);
  return read_yaml(path, text.substr(begin, end == std::string::npos ? end : end - begin));
}

Json read_any(const fs::path& path) {
  if (path.extension() == ".bin") return read_saved_attributes(path);
  if (path.extension() == ".md") return read_card(path);
  if (path.extension() == ".yaml") return read_yaml(path, read_text_file(path, kMostBytes));
  return read_json(path);
}

/// The method that a rope_scaling names, by itself or in a dictionary; nullopt: none.
std::optional<std::string> method_of(const Json& rope) {
  const Json name = rope.is_object() ? rope.value("rope_type", rope.value("type", Json())) : rope;
  if (!name.is_string() || name == "" || name == "none" || name == "default") return std::nullopt;
  return name.get<std::string>();
}

TrainingFile what_it_says(const std::string& name, const Json& json) {
  TrainingFile out{name, ""};
  for (const char* field : kLengths) {
    const Json value = json.value(field, Json());
    if (!value.is_number_integer() || value < 1 || value >= kMostTokens) continue;
    if (out.tokens && *out.tokens >= value.get<std::int64_t>()) continue;
    out.field = field, out.tokens = value.get<std::int64_t>();
  }
  const Json overrides = json.value("overrides_of_model_config", Json());  // axolotl's
  for (const Json* part : {&json, &overrides})
    if (part->is_object() && !out.rope_method) out.rope_method = method_of(part->value("rope_scaling", Json()));
  return out;
}

}  // namespace

std::vector<TrainingFile> training_files(const fs::path& folder) {
  std::vector<TrainingFile> out;
  for (const char* name : kFiles) {
    if (!is_there(folder / name)) continue;
    try {
      const Json json = read_any(folder / name);
      if (!json.is_object()) continue;
      TrainingFile file = what_it_says(name, json);
      if (file.tokens || file.rope_method) out.push_back(std::move(file));
    } catch (const Error& error) {
      out.push_back({.name = name, .field = "", .problem = error.what()});
    }
  }
  return out;
}

}  // namespace ropewalk::formats
