// extend of a Hugging Face folder: config.json and what else names the context are rewritten, all else is carried.
#include <algorithm>

#include "formats/hf_folder.h"
#include "formats/hf_writer.h"
#include "formats/rope_fields.h"
#include "lib/clone_file.h"
#include "lib/error.h"
#include "lib/file.h"
#include "tools/extend.h"
#include "tools/model_card.h"

namespace ropewalk::tools {
namespace {

namespace fs = std::filesystem;

/// A JSON file of the folder in which `key` is set to `context` if `stale` says so of its whole number.
template <typename Stale>
std::optional<std::string> changed(const fs::path& path, const char* key, int context, Stale stale) {
  std::error_code ignored;
  if (!fs::is_regular_file(path, ignored)) return std::nullopt;
  Json json = formats::read_json(path);
  if (!json.is_object() || !json.contains(key) || !json[key].is_number_integer() || !stale(json[key]))
    return std::nullopt;
  json[key] = context;
  return json_text(json);
}

/// The files of this folder that the old auto_map names, if the new configuration has none.
std::set<std::string> dead_code(const Json& old_config, const Json& config) {
  std::set<std::string> names;
  if (!formats::yarn_remote_code(old_config) || config.contains("auto_map")) return names;
  for (const auto& item : old_config.at("auto_map").items())
    if (item.value().is_string()) {
      const std::string value = item.value().get<std::string>();
      if (value.find("--") == std::string::npos) names.insert(value.substr(0, value.find('.')) + ".py");
    }
  return names;
}

std::string short_dump(const Json& value) {
  const std::string text = value.dump();
  return text.size() <= 300 ? text : text.substr(0, 297) + "...";
}

/// What differs between two configurations, a line for each key.
std::vector<std::string> config_changes(const Json& before, const Json& after) {
  std::vector<std::string> notes;
  for (const auto& item : before.items()) {
    if (!after.contains(item.key())) notes.push_back("config.json: " + item.key() + " removed");
    else if (after.at(item.key()) != item.value())
      notes.push_back("config.json: " + item.key() + " " + short_dump(item.value()) + " -> " +
                      short_dump(after.at(item.key())));
  }
  for (const auto& item : after.items())
    if (!before.contains(item.key()))
      notes.push_back("config.json: " + item.key() + " " + short_dump(item.value()) + " added");
  return notes;
}

}  // namespace

FolderPlan plan_extended_folder(const formats::HfFolder& hf, const Json& old_config, Json config, int old_context,
                                int context, std::vector<std::string>& notes) {
  FolderPlan plan;
  plan.config = std::move(config);
  const std::vector<std::string> changes = config_changes(old_config, plan.config);
  notes.insert(notes.end(), changes.begin(), changes.end());
  const std::set<std::string> dead = dead_code(old_config, plan.config);
  const auto shrunk = [&](const Json& value) { return value == old_context && context < old_context; };
  const auto change = [&](const char* name, const char* key, const char* why, auto stale) {
    const auto text = changed(hf.folder / name, key, context, stale);
    if (!text) return;
    plan.texts[name] = *text;
    notes.push_back(std::string(name) + ": " + key + why + (context < old_context ? " lowered to " : " raised to ") +
                    std::to_string(context));
  };
  for (const std::string& name : hf.carried_files) {
    if (dead.contains(name)) {
      plan.left_out.insert(name);
      notes.push_back(name + " left out: remote code, which nothing names any more");
    } else if (name == "tokenizer_config.json") {
      change("tokenizer_config.json", "model_max_length", "",
             [&](const Json& value) { return value < context || shrunk(value); });
    } else if (name == "generation_config.json") {
      change("generation_config.json", "max_length", ", the old context,",
             [&](const Json& value) { return value == old_context && value != context; });
    }
  }
  return plan;
}

ExtendWritten write_extended_folder(const formats::Source& source, const FolderPlan& plan, const ExtendOptions& options,
                                    const WriteOptions& write) {
  const formats::HfFolder& hf = *source.hf;
  ExtendWritten written;
  PendingFolder folder(options.output, write);
  const fs::path& building = folder.building();
  const auto text_file = [&](const std::string& name, const std::string& text) {
    write_file(building / name, text, folder.inside(name));
    written.files.push_back(name);
  };
  text_file("config.json", json_text(plan.config));
  text_file("README.md", model_card(source, last_part(folder.target()), "extended"));
  CloneMethod method = CloneMethod::reflink;
  const auto clone = [&](const fs::path& from, const std::string& name, bool allow_link) {
    const CloneMethod used = clone_file(from, building / name, allow_link, folder.inside(name));
    written.files.push_back(name);
    return used;
  };
  std::error_code ignored;
  const std::optional<fs::path> index =
      formats::weight_index(fs::exists(source.spec.model, ignored) ? fs::path(source.spec.model) : hf.folder);
  if (index) clone(*index, "model.safetensors.index.json", false);
  for (const fs::path& weights : hf.weight_files) {  // a file that no index lists is found under one name alone
    const CloneMethod used = clone(weights, index ? weights.filename().string() : "model.safetensors", options.link);
    if (used != CloneMethod::reflink) method = used;
  }
  for (const std::string& name : hf.carried_files) {
    if (name == "README.md") continue;
    if (plan.left_out.contains(name)) continue;
    if (const auto text = plan.texts.find(name); text != plan.texts.end()) {
      text_file(name, text->second);
      continue;
    }
    clone(hf.folder / name, name, false);
  }
  folder.finish();
  std::sort(written.files.begin(), written.files.end());
  written.weights = clone_method_name(method);
  return written;
}

}  // namespace ropewalk::tools
