#include <algorithm>

#include "formats/adapters/gguf_adapter.h"
#include "formats/hf_folder.h"
#include "formats/hub_cache.h"
#include "formats/synthetic.h"
#include "lib/error.h"
#include "tools/commands.h"
#include "tools/common_options.h"
#include "tools/describe.h"
#include "tools/describe_tokenizer.h"
#include "tools/units.h"

namespace ropewalk::tools {
namespace {

struct InspectOptions {
  std::string source;
  bool tensors = false;
  SourceOptions modifiers;
  CommonOptions common;
};

void declare(CommandLine& line, InspectOptions& options) {
  line.positional(options.source, reads("SOURCE"),
                  "what to look at: a model, a GGUF, an adapter (folder or GGUF), a folder of a tokenizer, "
                  "synthetic:CONFIG.json");
  line.flag("--tensors", options.tensors, "list every tensor with shape, dtype and bytes");
  declare_modifiers(line, options.modifiers);
  declare_common(line, options.common);
  line.example("ropewalk inspect ./Llama-2-7b-hf", "architecture, sizes, dtypes, rope in words, tokenizer");
  line.example("ropewalk inspect model-q8_0.gguf --tensors", "what llama.cpp will read, tensor by tensor");
  line.example("ropewalk inspect base+adapter+rope=yarn,factor=8 --json", "the model as it would be written");
}

Json tensor_list(const std::vector<TensorPtr>& tensors) {
  Json list = Json::array();
  for (const TensorPtr& tensor : tensors)
    list.push_back({{"name", tensor->name()},
                    {"shape", tensor->info().shape},
                    {"dtype", info(tensor->dtype()).name},
                    {"bytes", tensor->info().bytes()}});
  return list;
}

Table tensor_table(const std::vector<TensorPtr>& tensors) {
  Table table{{{"tensor"}, {"shape", true}, {"dtype"}, {"bytes", true}}, {}};
  for (const TensorPtr& tensor : tensors)
    table.rows.push_back({tensor->name(), shape_text(tensor->info().shape), std::string(info(tensor->dtype()).name),
                          std::to_string(tensor->info().bytes())});
  return table;
}

Json dtype_counts(const std::vector<TensorPtr>& tensors) {
  Json json = Json::object();
  for (const auto& [dtype, count] : tensors_by_dtype(tensors)) json[std::string(info(dtype).name)] = count;
  return json;
}

std::string dtype_text(const std::vector<TensorPtr>& tensors) {
  std::string out;
  for (const auto& [dtype, count] : tensors_by_dtype(tensors))
    out += (out.empty() ? "" : ", ") + std::to_string(count) + " in " + std::string(info(dtype).name);
  return out;
}

std::vector<TensorPtr> factors(const formats::PeftAdapter& adapter) {
  std::vector<TensorPtr> tensors;
  for (const formats::AdapterModule& module : adapter.modules)
    tensors.insert(tensors.end(), module.factors.begin(), module.factors.end());
  return tensors;
}

/// Names and values, a line each: the text, and without --tensors what a .csv holds.
void summarise(Output& output, const std::vector<std::pair<std::string, std::string>>& lines,
               const InspectOptions& options) {
  output.text(aligned(lines));
  if (options.tensors) return;
  output.csv = Table{{{"field"}, {"value"}}, {}};
  for (const auto& [field, value] : lines) output.csv->rows.push_back({field, value});
}

/// An adapter folder on its own: its base need not be there.
Output inspect_adapter(const InspectOptions& options, const std::filesystem::path& folder) {
  const formats::PeftAdapter adapter = formats::read_adapter(folder);
  const std::vector<TensorPtr> tensors = factors(adapter);
  Output output{.command = "inspect", .source = options.source};
  output.body = {{"kind", "adapter"},
                 {"architecture", nullptr},
                 {"read_as", nullptr},
                 {"parameters", total_elements(tensors)},
                 {"bytes", total_bytes(tensors)},
                 {"dtypes", dtype_counts(tensors)},
                 {"config", nullptr},
                 {"rope", nullptr},
                 {"context", nullptr},
                 {"tokenizer", nullptr},
                 {"quantization", nullptr},
                 {"tokenizer_origin", nullptr},
                 {"adapters", {adapter_json(adapter, 1)}},
                 {"tensors", options.tensors ? tensor_list(tensors) : Json(nullptr)}};
  summarise(output,
            {{"kind", std::string("adapter (") + adapter.kind + ")"},
             {"adapter", adapter_text(adapter, 1)},
             {"parameters", count_text(total_elements(tensors)) + " in " + plural(tensors.size(), "tensor") + " (" +
                                dtype_text(tensors) + ")"},
             {"size", bytes_text(total_bytes(tensors))}},
            options);
  if (options.tensors) output.table(tensor_table(tensors));
  return output;
}

/// A folder or GGUF of a tokenizer without weights.
Output inspect_tokenizer(const InspectOptions& options, const formats::Source& source) {
  const Checkpoint& model = source.checkpoint;
  Output output{.command = "inspect", .source = source.spec.text, .warnings = model.warnings};
  const Json none = Json::array();
  output.body = {{"kind", "tokenizer"},
                 {"architecture", nullptr},
                 {"read_as", model.read_as},
                 {"parameters", 0},
                 {"bytes", 0},
                 {"dtypes", Json::object()},
                 {"config", nullptr},
                 {"rope", nullptr},
                 {"context", nullptr},
                 {"tokenizer", vocabulary_json(model.vocabulary, model.config.n_vocab)},
                 {"quantization", nullptr},
                 {"tokenizer_origin", source.tokenizer_origin},
                 {"adapters", none},
                 {"tensors", options.tensors ? none : Json(nullptr)}};
  std::vector<std::pair<std::string, std::string>> lines = {
      {"kind", std::string(source.gguf ? "GGUF of a tokenizer" : "tokenizer") + " without weights, read as by " +
                   model.read_as},
      {"tokenizer", model.vocabulary ? vocabulary_text(model.vocabulary, source.tokenizer_folder) : "not read"}};
  for (auto& line : vocabulary_lines(model.vocabulary, model.config.n_vocab)) lines.push_back(std::move(line));
  summarise(output, lines, options);
  return output;
}

Output inspect_model(const InspectOptions& options, const Io& io) {
  SourceOptions modifiers = options.modifiers;
  modifiers.tokenizer_use = formats::TokenizerUse::described;
  const formats::Source source = open_source(options.source, modifiers, options.common, io);
  const Checkpoint& model = source.checkpoint;
  if (model.tensors.empty()) return inspect_tokenizer(options, source);
  const DType dominant = dominant_dtype(model.tensors);
  const std::string quantization = source.quantization       ? source.quantization->method
                                   : is_block_type(dominant) ? std::string(info(dominant).name)
                                                             : "";
  Json adapters = Json::array();
  for (std::size_t i = 0; i < source.adapters.size(); ++i)
    adapters.push_back(adapter_json(source.adapters[i], adapter_scale(source, i)));
  Output output{.command = "inspect", .source = source.spec.text, .warnings = model.warnings};
  warn_of_vocabulary(source, options.common, io, output.warnings);
  output.body = {
      {"kind", source.synthetic ? "synthetic"
               : source.gguf    ? "gguf"
                                : "hf"},
      {"architecture", model.config.model_type},
      {"read_as", model.read_as},
      {"parameters", total_elements(model.tensors)},
      {"bytes", total_bytes(model.tensors)},
      {"dtypes", dtype_counts(model.tensors)},
      {"config",
       {{"n_layers", model.config.n_layers},
        {"d_model", model.config.d_model},
        {"n_heads", model.config.n_heads},
        {"n_kv_heads", model.config.n_kv_heads},
        {"head_dim", model.config.head_dim},
        {"d_ff", model.config.d_ff},
        {"n_vocab", model.config.n_vocab},
        {"rms_eps", model.config.rms_eps},
        {"tied_head", model.config.tied_head},
        {"attention_bias", model.config.attention_bias},
        {"mlp_bias", model.config.mlp_bias},
        {"sliding_window", model.config.sliding_window ? Json(*model.config.sliding_window) : Json(nullptr)}}},
      {"rope", rope_json(model.config.rope, model.config.context)},
      {"context", model.config.context},
      {"tokenizer", vocabulary_json(model.vocabulary, model.config.n_vocab)},
      {"tokenizer_origin", source.tokenizer_origin},
      {"quantization", quantization.empty() ? Json(nullptr) : Json(quantization)},
      {"adapters", adapters},
      {"tensors", options.tensors ? tensor_list(model.tensors) : Json(nullptr)}};
  std::vector<std::pair<std::string, std::string>> lines = {
      {"kind", std::string(source.synthetic ? "configuration with random weights"
                           : source.gguf    ? "GGUF"
                                            : "Hugging Face folder") +
                   ", read as by " + model.read_as},
      {"architecture", model.config.model_type + ": " + geometry_text(model.config)},
      {"parameters", count_text(total_elements(model.tensors)) + " in " + plural(model.tensors.size(), "tensor") +
                         " (" + dtype_text(model.tensors) + ")"},
      {"size", bytes_text(total_bytes(model.tensors))},
      {"context", plural(static_cast<std::uint64_t>(model.config.context), "token")},
      {"rope", describe(model.config.rope)},
      {"tokenizer",
       vocabulary_text(model.vocabulary, source.tokenizer_folder) +
           (source.tokenizer_origin.empty() || source.adapters.empty() ? "" : ", from " + source.tokenizer_origin)},
  };
  for (auto& line : vocabulary_lines(model.vocabulary, model.config.n_vocab)) lines.push_back(std::move(line));
  if (source.quantization)
    lines.emplace_back("quantization", quantization + " of " + plural(source.quantization->weights, "weight") +
                                           ", stored in " + bytes_text(source.quantization->bytes) +
                                           "; sizes and types here are those they are read as");
  else if (!quantization.empty()) lines.emplace_back("quantization", quantization);
  for (std::size_t i = 0; i < source.adapters.size(); ++i)
    lines.emplace_back("adapter", source.adapters[i].folder.string() + ": " +
                                      adapter_text(source.adapters[i], adapter_scale(source, i)));
  summarise(output, lines, options);
  if (options.tensors) output.table(tensor_table(model.tensors));
  return output;
}

int run_inspect(const InspectOptions& options, Io& io) {
  check_reports(options.common);
  const formats::SourceSpec spec = formats::parse_source(options.source);
  const bool plain =
      options.modifiers.adapters.empty() && !options.modifiers.rope && spec.adapters.empty() && !spec.rope;
  std::filesystem::path path;  // of what may be an adapter on its own
  if (plain && !formats::synthetic_config(spec.model)) path = formats::path_or_hub(spec.model, "model", io.hub_cache);
  const bool adapter = !path.empty() && (formats::is_adapter_alone(path) || formats::is_gguf_adapter(path));
  emit(adapter ? inspect_adapter(options, path) : inspect_model(options, io), options.common, io);
  return 0;
}

}  // namespace

Command inspect_command() {
  return make_command("inspect", "what a model, GGUF or adapter is: sizes, dtypes, rope in words, tokenizer", declare,
                      run_inspect);
}

}  // namespace ropewalk::tools
