#include "tools/new_rope.h"

#include "formats/config_file.h"
#include "formats/gguf_folder.h"
#include "formats/gguf_model.h"
#include "formats/hf_config.h"
#include "formats/hf_folder.h"
#include "formats/rope_base.h"
#include "formats/rope_config.h"
#include "formats/rope_fields.h"
#include "formats/rope_layers.h"
#include "lib/error.h"
#include "tools/describe.h"
#include "tools/losses.h"
#include "tools/one_line.h"
#include "tools/units.h"

namespace ropewalk::tools {
namespace {

namespace fs = std::filesystem;

/// The model as it was before the new rope.
ModelConfig model_before(const formats::Source& source, const Json& old_config) {
  if (source.gguf) return formats::read_gguf_config(*source.gguf, source.spec.model);
  const std::string path = (source.hf->folder / "config.json").string();
  std::vector<std::string> known;
  const formats::RopeBase base = formats::rope_base(path, source.hf->config_text, old_config, *source.spec.rope);
  return formats::read_hf_config(path, source.hf->config_text, base.config, known);
}

/// A JSON file in which `key` is set to `context` if `stale` says so of its number.
template <typename Stale>
std::optional<std::string> changed(const fs::path& path, const char* key, int context, Stale stale) {
  std::error_code ignored;
  if (!fs::is_regular_file(path, ignored)) return std::nullopt;
  Json json = formats::read_json(path);
  if (!json.is_object() || !json.contains(key) || !json[key].is_number() || !stale(json[key].get<double>()))
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

/// A longrope's lists by their length.
std::string short_dump(Json value) {
  if (value.is_object())
    for (Json& one : value)
      if (one.is_array() && one.size() > 4) one = "list of " + std::to_string(one.size());
  const std::string text = value.dump();
  return text.size() <= 300 ? text : text.substr(0, 297) + "...";
}

/// A sliding window shorter than the context: what --sliding-window says becomes of it, else a loss.
void settle_sliding_window(const std::optional<std::string>& asked, const ModelConfig& model, int context, Json& config,
                           std::vector<formats::Loss>& losses) {
  if (asked) {
    const std::optional<int> window = asked_sliding_window(asked, model);
    config["sliding_window"] = window ? Json(*window) : Json(nullptr);
    return;
  }
  if (!model.sliding_window || *model.sliding_window >= context) return;
  losses.push_back({"sliding_window",
                    "a query sees the last " + std::to_string(*model.sliding_window) + " tokens only, and " +
                        std::to_string(context) + " are to be served (--sliding-window none lifts it)",
                    *model.sliding_window, true});
}

/// What differs between two configurations, a line for each key.
void note_changes(const Json& before, const Json& after, std::vector<std::string>& notes) {
  for (const auto& item : before.items()) {
    if (!after.contains(item.key())) notes.push_back("config.json: " + item.key() + " removed");
    else if (after.at(item.key()) != item.value())
      notes.push_back("config.json: " + item.key() + " " + short_dump(item.value()) + " -> " +
                      short_dump(after.at(item.key())));
  }
  for (const auto& item : after.items())
    if (!before.contains(item.key()))
      notes.push_back("config.json: " + item.key() + " " + short_dump(item.value()) + " added");
}

/// Files beside config.json that name the context, and remote code that nothing names any more.
void change_other_files(const formats::Source& source, const NewRope& rope, FolderPlan& plan) {
  const formats::HfFolder& hf = *source.hf;
  const int before = rope.before.context, context = rope.target.context;
  const auto change = [&](const fs::path& folder, const char* name, const char* key, const char* why, auto stale) {
    const auto text = changed(folder / name, key, context, stale);
    if (!text) return;
    plan.changes.texts[name] = *text;
    plan.notes.push_back(std::string(name) + ": " + key + why + (context < before ? " lowered to " : " raised to ") +
                         std::to_string(context));
  };
  const std::set<std::string> dead = dead_code(rope.old_config, plan.config);
  for (const std::string& name : hf.carried_files) {
    if (!dead.contains(name)) continue;
    plan.changes.left_out.insert(name);
    plan.notes.push_back(name + " left out: remote code, which nothing names any more");
  }
  change(hf.folder, "generation_config.json", "max_length", ", the old context,",
         [&](double limit) { return limit == before && limit != context; });
  change(source.tokenizer_folder.empty() ? hf.folder : source.tokenizer_folder, "tokenizer_config.json",
         "model_max_length", "", [&](double limit) { return formats::limit_follows(limit, before, context); });
}

}  // namespace

void declare_engines(CommandLine& line, std::vector<std::string>& engines) {
  line.option("--engine,--target", engines, "ENGINE[@VERSION]",
              "write what this engine reads as the new rope, e.g. vllm@0.24. Repeatable. Without it: what most of the "
              "newest read so");
}

std::vector<formats::EngineVersion> parse_engines(const std::vector<std::string>& engines) {
  std::vector<formats::EngineVersion> out;
  for (const std::string& text : engines) out.push_back(formats::parse_engine(text));
  return out;
}

void declare_sliding_window(CommandLine& line, std::optional<std::string>& window) {
  line.option("--sliding-window", window, "N|none",
              "a sliding window that is shorter than the context: its new length, or none");
}

void check_sliding_window(const std::optional<std::string>& window) {
  if (window && *window != "none" && !formats::parse_context(*window))
    throw Error(ErrorKind::usage, {}, "--sliding-window is '" + *window + "'",
                "give a number of tokens such as 64k, or none");
}

std::optional<int> asked_sliding_window(const std::optional<std::string>& window, const ModelConfig& before) {
  if (!window) return before.sliding_window;
  if (before.model_type != "mistral")
    throw Error(ErrorKind::usage, {}, "--sliding-window is given, and a " + before.model_type + " model has none",
                "leave it out");
  return *window == "none" ? std::nullopt : formats::parse_context(*window);
}

void refuse_without_rope(const NewRopeOptions& options, const formats::Source& source) {
  if (source.spec.rope) return;
  const std::string fix = "add one, such as --rope yarn,to=64k (native: the rope as it is), or leave ";
  if (!options.engines.empty())
    throw Error(ErrorKind::usage, {}, "--engine says for whom a new rope is written, and no rope is given",
                fix + "--engine out");
  if (options.sliding_window)
    throw Error(ErrorKind::usage, {},
                "--sliding-window says what becomes of the window beside a new rope, and no rope is given",
                fix + "--sliding-window out");
}

std::optional<NewRope> new_rope(const formats::Source& source) {
  if (!source.spec.rope) return std::nullopt;
  NewRope rope;
  if (source.hf)
    rope.old_config = formats::parse_json((source.hf->folder / "config.json").string(), source.hf->config_text);
  rope.before = model_before(source, rope.old_config);
  const formats::RopeRequest request = formats::parse_rope_spec(*source.spec.rope, rope.before);
  rope.target = {request.spec, request.served};
  rope.trained = request.trained;
  return rope;
}

namespace {

/// What is chosen for config.json, and what else changes with it.
void carry_out(FolderPlan& plan, const formats::Source& source, const NewRope& rope, formats::EmittedRope emitted) {
  plan.config = std::move(emitted.config);
  plan.verdicts = std::move(emitted.verdicts);
  plan.notes.push_back("config.json: the dialect of " + emitted.dialect);
  note_changes(rope.old_config, plan.config, plan.notes);
  change_other_files(source, rope, plan);
}

}  // namespace

FolderPlan plan_folder(const formats::Source& source, const NewRope& rope, const NewRopeOptions& options) {
  FolderPlan plan;
  Json preferred = source.hf->config;
  settle_sliding_window(options.sliding_window, source.checkpoint.config, rope.target.context, preferred, plan.losses);
  refuse_losses(plan.losses, options.allowed_losses, source.checkpoint);
  carry_out(plan, source, rope,
            formats::emit_rope(preferred, source.checkpoint.config, rope.target, parse_engines(options.engines)));
  return plan;
}

FolderPlan plan_folder(const formats::Source& source, const formats::WantedRope& before,
                       const formats::WantedRope& after, formats::EmittedRope emitted) {
  FolderPlan plan;
  NewRope rope;
  rope.old_config = source.hf->config;
  rope.before.context = before.context;
  rope.target.context = after.context;
  plan.rope_text = formats::describe(after);
  carry_out(plan, source, rope, std::move(emitted));
  return plan;
}

FolderPlan plan_gguf_folder(const formats::Source& source, const std::optional<NewRope>& rope,
                            const NewRopeOptions& options) {
  const ModelConfig& model = source.checkpoint.config;
  std::vector<formats::EngineVersion> engines = parse_engines(options.engines);
  if (!rope) engines.push_back(formats::newest(formats::Engine::transformers));  // whose folder it is
  formats::GgufFolder made =
      folder_of_gguf(source, rope ? rope->target : formats::RopeTarget{model.rope, model.context}, engines);
  FolderPlan plan;
  plan.config = std::move(made.config);
  plan.changes.texts = std::move(made.files);
  plan.losses = std::move(made.losses);
  refuse_losses(plan.losses, options.allowed_losses, source.checkpoint);
  if (!rope) return plan;
  plan.verdicts = std::move(made.verdicts);
  plan.notes.push_back("config.json: the dialect of " + made.dialect);
  return plan;
}

void check_gguf_engines(const std::vector<formats::EngineVersion>& engines) {
  for (const formats::EngineVersion& engine : engines)
    if (engine.engine != formats::Engine::llama_cpp)
      throw Error(ErrorKind::usage, {}, engine.title() + " reads no config.json out of a GGUF",
                  "name llama.cpp, or write a Hugging Face folder");
}

std::vector<formats::EngineVerdict> written_verdicts(const std::string& path, const formats::RopeTarget& target,
                                                     const std::vector<formats::EngineVersion>& engines) {
  std::vector<formats::EngineVersion> readers;
  for (const formats::EngineVersion& engine : engines)
    if (engine.engine == formats::Engine::llama_cpp) readers.push_back(engine);
  if (readers.empty()) readers.push_back(formats::newest(formats::Engine::llama_cpp));
  const formats::GgufFile file = formats::read_gguf(path);
  std::vector<formats::EngineVerdict> all;
  for (const formats::EngineVersion& engine : readers) {
    formats::EngineVerdict verdict{formats::read_as(engine, file, path), ""};
    verdict.difference = formats::first_difference(target, verdict.reading);
    all.push_back(std::move(verdict));
  }
  return all;
}

namespace {

/// "full: YaRN x4 of 256, sliding: plain": without what stands in brackets.
std::string short_ropes(const formats::WantedRope& ropes) {
  std::string out;
  for (const formats::WantedLayer& layer : ropes.layers) {
    const std::string words = describe(layer.spec),
                      kind = layer.layer_type.substr(0, layer.layer_type.find("_attention"));
    out += (out.empty() ? "" : ", ") + (kind.empty() ? "" : kind + ": ") + words.substr(0, words.find(" ("));
  }
  return out;
}

bool not_followed(const formats::EngineVerdict& verdict) {
  return verdict.reading.error && verdict.reading.error->kind == formats::kNotFollowed;
}

}  // namespace

void show_verdicts(Output& output, const std::vector<formats::EngineVerdict>& verdicts) {
  Table table{{{"engine"}, {"reads"}, {"attention", true}, {"context", true}, {"as wanted"}}, {}};
  std::string reasons;
  for (const formats::EngineVerdict& verdict : verdicts) {
    const formats::EngineReading& reading = verdict.reading;
    const bool one = reading.ropes.size() == 1;
    table.rows.push_back(
        {reading.engine.title(), reading.ropes.empty() ? "-" : short_ropes(formats::wanted_rope(reading, 0)),
         one ? number_text(rope_table(reading.ropes[0].spec, reading.context.value_or(1)).attention_factor, 5) : "-",
         reading.context && !reading.error ? std::to_string(*reading.context) : "-",
         verdict.right()         ? "yes"
         : not_followed(verdict) ? "not known"
                                 : "no"});
    if (!verdict.right())
      reasons += (reasons.empty() ? "" : "\n") + reading.engine.title() + ": " + one_line(verdict.difference);
  }
  output.table(std::move(table));
  if (!reasons.empty()) output.text(std::move(reasons));
}

Json engines_json(const std::vector<formats::EngineVerdict>& verdicts) {
  Json list = Json::array();
  for (const formats::EngineVerdict& verdict : verdicts) {
    const formats::EngineReading& reading = verdict.reading;
    const RopeSpec* spec = reading.ropes.empty() ? nullptr : &reading.ropes.front().spec;
    Json notices = Json::array();
    for (const formats::EngineNotice& notice : reading.notices) notices.push_back(notice.text);
    list.push_back({{"engine", engine_name(reading.engine.engine)},
                    {"version", reading.engine.text},
                    {"right", verdict.right()},
                    {"difference", verdict.right() ? Json(nullptr) : Json(verdict.difference)},
                    {"method", spec ? Json(rope_method_name(*spec)) : Json(nullptr)},
                    {"attention_factor",
                     spec ? Json(rope_table(*spec, reading.context.value_or(1)).attention_factor) : Json(nullptr)},
                    {"context", reading.context ? Json(*reading.context) : Json(nullptr)},
                    {"notices", std::move(notices)}});
  }
  return list;
}

}  // namespace ropewalk::tools
