#include "tools/recipe.h"

#include <algorithm>
#include <map>
#include <set>

#include "formats/json_comments.h"
#include "formats/json_fields.h"
#include "lib/error.h"
#include "lib/file.h"
#include "lib/nearest_word.h"
#include "lib/plural.h"
#include "lib/sha256.h"
#include "tools/cli.h"

namespace ropewalk::tools {
namespace {

using formats::Json;

class Parser {
 public:
  Parser(const std::string& path, std::string text)
      : path_(path), text_(std::move(text)), json_(formats::parse_json(path, text_)) {}

  Recipe parse() {
    Recipe recipe;
    keys("", json_, {"sources", "outputs", "gates", "manifest"});
    if (json_.contains("sources")) {
      const Json& sources = json_["sources"];
      if (!sources.is_object()) wrong("/sources", sources, "an object of names");
      for (const auto& [name, value] : sources.items()) {
        const std::string pointer = "/sources/" + formats::pointer_segment(name);
        name_once(name, pointer);
        names_[name] = string(pointer, value);
      }
    }
    for (const bool gates : {false, true}) {
      const char* list = gates ? "gates" : "outputs";
      if (!json_.contains(list)) continue;
      if (!json_[list].is_array()) wrong(std::string("/") + list, json_[list], "a list of steps");
      for (std::size_t i = 0; i < json_[list].size(); ++i)
        recipe.steps.push_back(step("/" + std::string(list) + "/" + std::to_string(i), json_[list][i], gates));
    }
    if (recipe.steps.empty()) fail("", "has no outputs and no gates", "name at least one step");
    recipe.manifest = json_.contains("manifest")
                          ? string("/manifest", json_["manifest"])
                          : std::filesystem::path(path_).replace_extension(".manifest.json").string();
    return recipe;
  }

 private:
  [[noreturn]] void fail(const std::string& pointer, const std::string& problem, const std::string& fix) const {
    throw Error(ErrorKind::bad_input, formats::json_place(path_, text_, pointer), problem, fix);
  }
  [[noreturn]] void wrong(const std::string& pointer, const Json& found, const std::string& expected) const {
    fail(pointer, formats::shown(found) + " stands there, expected " + expected, "see docs/recipes.md");
  }
  std::string string(const std::string& pointer, const Json& value) const {
    if (!value.is_string() || value.get_ref<const std::string&>().empty()) wrong(pointer, value, "a text");
    return value.get<std::string>();
  }
  void keys(const std::string& pointer, const Json& object, const std::vector<std::string>& known) const {
    if (!object.is_object()) wrong(pointer, object, "an object");
    for (const auto& [key, unused] : object.items()) {
      if (std::ranges::find(known, key) != known.end()) continue;
      const auto near = nearest_word(key, known);
      fail(pointer + "/" + formats::pointer_segment(key), "the key '" + key + "' is not known",
           near ? "did you mean " + *near + "?" : "use " + listed(known));
    }
  }
  void name_once(const std::string& name, const std::string& pointer) {
    const bool good = !name.empty() && std::ranges::all_of(name, [](char c) {
      return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-' ||
             c == '.';
    });
    if (!good || name.starts_with("output"))
      fail(pointer, "'" + name + "' is no name",
           "use letters, digits, '_', '-' and '.', and do not begin with 'output'");
    if (!taken_.insert(name).second) fail(pointer, "the name '" + name + "' stands twice", "give each its own");
  }
  /// `word` with what its ${...} stand for.
  std::string filled(const std::string& word, const RecipeStep& step, const std::string& pointer) const {
    std::string out;
    for (std::size_t at = 0; at < word.size();) {
      if (word.compare(at, 2, "${") != 0) {
        out += word[at++];
        continue;
      }
      const std::size_t end = word.find('}', at);
      const std::string name = end == std::string::npos ? word.substr(at + 2) : word.substr(at + 2, end - at - 2);
      out += value_of(name, step, pointer);
      at = end == std::string::npos ? word.size() : end + 1;
    }
    return out;
  }
  std::string value_of(const std::string& name, const RecipeStep& step, const std::string& pointer) const {
    for (std::size_t i = 0; i < step.outputs.size(); ++i)
      if (name == "output" + std::to_string(i + 1) || (name == "output" && step.outputs.size() == 1))
        return step.outputs[i];
    if (const auto found = names_.find(name); found != names_.end()) return found->second;
    std::vector<std::string> known;
    for (const auto& [one, unused] : names_) known.push_back(one);
    const auto near = nearest_word(name, known);
    fail(pointer, "'${" + name + "}' names nothing that stands before it",
         near ? "did you mean ${" + *near + "}?" : "name a source, or a step before that has one output");
  }
  RecipeStep step(const std::string& pointer, const Json& json, bool gate) {
    keys(pointer, json,
         gate ? std::vector<std::string>{"name", "command"} : std::vector<std::string>{"name", "output", "command"});
    for (const char* key : {"name", "command"})
      if (!json.contains(key)) fail(pointer, std::string("'") + key + "' is missing", "see docs/recipes.md");
    RecipeStep out;
    out.is_gate = gate;
    out.name = string(pointer + "/name", json["name"]);
    name_once(out.name, pointer + "/name");
    if (!gate) read_outputs(pointer, json, out);
    const Json& words = json["command"];
    if (!words.is_array() || words.empty())
      wrong(pointer + "/command", words, "a list of words, the command's name first");
    for (std::size_t i = 0; i < words.size(); ++i) {
      const std::string place = pointer + "/command/" + std::to_string(i);
      out.command.push_back(filled(string(place, words[i]), out, place));
    }
    check_command(out, pointer);
    plan_command(out, pointer);
    if (out.outputs.size() == 1) names_[out.name] = out.outputs.front();
    return out;
  }
  void read_outputs(const std::string& pointer, const Json& json, RecipeStep& out) {
    if (!json.contains("output")) fail(pointer, "'output' is missing", "name the file or folder that is written");
    const Json& output = json["output"];
    if (output.is_array()) {
      for (std::size_t i = 0; i < output.size(); ++i)
        out.outputs.push_back(string(pointer + "/output/" + std::to_string(i), output[i]));
    } else {
      out.outputs.push_back(string(pointer + "/output", output));
    }
    if (out.outputs.empty()) wrong(pointer + "/output", output, "a path or several");
    for (const std::string& path : out.outputs) written_once(path, pointer + "/output");
    out.written = out.outputs;
  }
  void written_once(const std::string& path, const std::string& pointer) {
    if (!written_.insert(whole_path(path).string()).second)
      fail(pointer, "'" + path + "' is written twice", "give each output its own path");
  }
  /// What the command would do: a recipe owns all that it writes, and a gate is there to judge.
  void plan_command(RecipeStep& step, const std::string& pointer) {
    const std::string place = pointer + "/command";
    CommandPlan planned;
    try {
      const auto command = std::ranges::find(commands(), step.command.front(), &Command::name);
      planned = command->plan(std::span(step.command).subspan(1));
    } catch (const HelpRequested&) {
      fail(place, "the command only prints its help", "leave that word out");
    } catch (const Error& error) {
      if (error.kind() != ErrorKind::usage) throw;
      fail(place, error.problem(), error.fix());
    }
    if (step.is_gate && !planned.no_verdict.empty())
      fail(place, "a gate is to judge, and " + planned.no_verdict + " judges nothing: it would always pass",
           "see docs/recipes.md for what a gate can be");
    step.files = std::move(planned.files);
    for (const NamedFile& file : step.files) {
      if (file.role != Role::writes && file.role != Role::keeps) continue;
      const auto is_it = [&](const std::string& path) { return whole_path(path) == whole_path(file.value); };
      if (std::ranges::any_of(step.outputs, is_it)) continue;
      written_once(file.value, place);
      if (file.role == Role::writes) step.written.push_back(file.value);
    }
  }
  void check_command(const RecipeStep& step, const std::string& pointer) const {
    const std::string& name = step.command.front();
    std::vector<std::string> known;
    for (const Command& command : commands())
      if (command.name != "run" && command.name != "completion") known.push_back(command.name);
    if (std::ranges::find(known, name) == known.end()) {
      const auto near = nearest_word(name, known);
      fail(pointer + "/command/0", "'" + name + "' is no command of a recipe",
           near ? "did you mean " + *near + "?" : "see ropewalk --help");
    }
    for (const std::string& word : step.command)
      if (word == "--overwrite" || word == "--force" || word == "--dry-run")
        fail(pointer + "/command", "'" + word + "' stands in a command", "leave it out: run decides what it replaces");
    const bool pattern =
        std::ranges::any_of(step.command, [](const std::string& word) { return word.find("{type}") != word.npos; });
    for (const std::string& path : step.outputs)
      if (!pattern && std::ranges::find(step.command, path) == step.command.end())
        fail(pointer + "/command", "the command does not name its output '" + path + "'",
             "write ${output} where it belongs");
  }

  const std::string& path_;
  std::string text_;
  Json json_;
  std::map<std::string, std::string> names_;
  std::set<std::string> taken_, written_;
};

}  // namespace

Recipe parse_recipe(const std::string& path, const std::string& text) {
  Recipe recipe = Parser(path, formats::without_comments(path, text)).parse();
  recipe.path = path;
  recipe.sha256 = ropewalk::sha256(text);
  return recipe;
}

}  // namespace ropewalk::tools
