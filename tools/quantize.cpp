#include <algorithm>
#include <map>
#include <utility>

#include "formats/gguf_rewrite.h"
#include "formats/gguf_split.h"
#include "formats/gguf_write.h"
#include "lib/file_sha256.h"
#include "tools/auto_mix.h"
#include "tools/commands.h"
#include "tools/one_line.h"
#include "tools/output_plan.h"
#include "tools/quantize_options.h"
#include "tools/tensor_errors.h"
#include "tools/units.h"

namespace ropewalk::tools {
namespace {

namespace fs = std::filesystem;

std::uint64_t bytes_of(const formats::GgufTensorPlan& tensor) {
  return byte_size(tensor.dtype, tensor.tensor->info().elements()).value_or(0);
}

Table type_table(const formats::QuantizePlan& plan) {
  struct Sum {
    std::size_t tensors = 0;
    std::uint64_t elements = 0, bytes = 0;
  };
  std::map<DType, Sum> sums;
  Sum all;
  for (const formats::GgufTensorPlan& tensor : plan.plan.tensors)
    for (Sum* sum : {&sums[tensor.dtype], &all}) {
      ++sum->tensors;
      sum->elements += tensor.tensor->info().elements();
      sum->bytes += bytes_of(tensor);
    }
  Table table{{{"type"}, {"tensors", true}, {"weights", true}, {"bytes", true}, {"bits a weight", true}}, {}};
  const auto row = [&](const std::string& name, const Sum& sum) {
    const double bits = sum.elements == 0 ? 0 : 8.0 * double(sum.bytes) / double(sum.elements);
    table.rows.push_back(
        {name, std::to_string(sum.tensors), count_text(sum.elements), std::to_string(sum.bytes), fixed_text(bits, 2)});
  };
  for (const auto& [dtype, sum] : sums) row(std::string(info(dtype).name), sum);
  row("all", all);
  return table;
}

struct Written {
  formats::GgufWritten files;
  std::vector<EncodingError> errors;  // if they are measured
  std::vector<std::string> warnings;
};
Written write(const formats::QuantizePlan& plan, const formats::GgufTarget& target, const QuantizeCommand& command,
              NotFinite policy, const CommonOptions& common, const Io& io) {
  WriteOptions options = write_options(common, command.writer);
  options.overwrite = true;  // as llama-quantize does; the old file stays until the new one is whole
  formats::GgufOutputs outputs({plan.plan}, {target}, options);
  StreamPlan pass;
  outputs.append_items(pass, measures_errors(command.rmse, common));
  Written written;
  written.warnings = stream_pass(pass, "quantizing", common, io, policy);
  written.files = outputs.finish().front();
  written.errors = outputs.errors(0);
  return written;
}

Json tensors_json(const formats::QuantizePlan& plan, const MeasuredOutput& measured) {
  Json tensors = Json::array();
  for (std::size_t i = 0; i < plan.tensors.size(); ++i) {
    const formats::QuantizedTensor& tensor = plan.tensors[i];
    tensors.push_back({{"name", tensor.name},
                       {"from", info(tensor.from).name},
                       {"type", info(tensor.to).name},
                       {"wanted", info(tensor.wanted).name},
                       {"bytes", bytes_of(plan.plan.tensors[i])},
                       {"weighted", tensor.weighted}});
    put_errors(tensors.back(), measured, i);
  }
  return tensors;
}

Output describe(const QuantizeRequest& request, const formats::QuantizePlan& plan, const formats::GgufWritten& files,
                const QuantizeCommand& command, const MeasuredOutput& measured,
                const std::vector<std::string>& chosen) {
  const bool dry_run = command.writer.dry_run;
  Output output{.command = "quantize", .source = request.input.string()};
  Json list = Json::array();
  for (const fs::path& path : files.files)
    list.push_back(
        {{"path", path.string()}, {"sha256", command.sha256 && !dry_run ? Json(file_sha256(path)) : Json(nullptr)}});
  std::vector<std::string> notes = fallback_notes(plan);
  for (std::string& note : idle_rule_notes(request.options, plan)) notes.push_back(std::move(note));
  notes.insert(notes.end(), chosen.begin(), chosen.end());
  const Coverage coverage = coverage_of(plan);
  Json importances, unseen = Json::array();
  for (const auto& [tensor, experts] : coverage.experts_unseen)
    unseen.push_back({{"tensor", tensor}, {"experts", experts}});
  if (command.mix.imatrix)
    importances = {{"file", *command.mix.imatrix},
                   {"tensors", coverage.able},
                   {"covered", coverage.weighted},
                   {"unweighted", coverage.unweighted},
                   {"experts_never_hit", unseen}};
  output.body = {{"outputs",
                  {{{"path", files.files.front().string()},
                    {"type", request.type},
                    {"bytes", files.bytes},
                    {"sha256", list.size() == 1 ? list[0]["sha256"] : Json(nullptr)},
                    {"files", list},
                    {"tensors", tensors_json(plan, measured)},
                    {"losses", Json::array()},
                    {"notes", notes}}}},
                 {"mix", request.options.copy || request.automatic ? Json(nullptr) : Json(formats::kMixVersion)},
                 {"importances", importances},
                 {"dry_run", dry_run}};
  if (dry_run) output.text("dry run: nothing written");
  std::string what = files.files.front().string();
  if (files.files.size() > 1) what += " and " + std::to_string(files.files.size() - 1) + " more";
  what += ": " + request.type + ", " + bytes_text(files.bytes);
  if (!request.options.copy && !request.automatic) what += ", mix of " + std::string(formats::kMixVersion);
  output.text(what);
  if (command.mix.imatrix) output.text(coverage_text(coverage));
  for (const std::string& note : notes) output.text("note: " + one_line(note));
  for (const Json& file : list)
    if (file["sha256"].is_string())
      output.text(file["sha256"].get<std::string>() + "  " + file["path"].get<std::string>());
  output.table(type_table(plan));
  return output;
}

int run_quantize(const QuantizeCommand& command, Io& io) {
  CommonOptions common = command.common;
  check_reports(common);
  QuantizeRequest request = parse_quantize(command);
  if (request.threads) common.threads = std::max(0, *request.threads);
  const std::optional<formats::Imatrix> matrix = read_importances(command.mix);
  if (matrix) request.options.imatrix = &*matrix;

  formats::Source source;
  source.gguf = formats::read_gguf(request.input);
  std::vector<std::string> warnings = source.gguf->warnings;
  for (const std::string& warning : warnings) warn(warning, common, io);
  if (command.keep_split) request.options.shard_of = source.gguf->shard_of;
  const formats::GgufPlan whole = formats::rewrite_gguf(*source.gguf, {});
  AutoMix chosen;
  if (request.automatic)
    chosen = auto_mix(whole, request.input.string(), request.options, command.mix, common, command.writer.dry_run, io);
  else chosen.plan = formats::quantize_plan(whole, request.input.string(), request.options);
  const formats::QuantizePlan& plan = chosen.plan;
  check_coverage(coverage_of(plan), command.mix);

  formats::GgufTarget target{request.output, plan.split};
  if (command.keep_split && plan.split.first_tensors.empty())  // llama-quantize numbers a lone shard too
    target.path += formats::shard_suffix(0, 1) + ".gguf";
  formats::GgufWritten files = formats::planned_files(plan.plan, target);
  OutputPlan outputs{.targets = {}, .what = plural(files.files.size(), "file"), .read_bytes = 0};
  for (const TensorPtr& tensor : source.gguf->tensors) outputs.read_bytes += tensor->info().bytes();
  CommonOptions replacing = common;
  replacing.overwrite = true;
  for (std::uint64_t rest = files.bytes; const fs::path& path : files.files) {
    check_target(path, OutputKind::gguf, source, replacing);
    outputs.targets.push_back({path, std::exchange(rest, 0)});
  }
  announce(outputs, common, io);
  MeasuredOutput measured{files.files.front().filename().string(), &plan.plan, {}};
  if (!command.writer.dry_run) {
    const NotFinite policy = request.options.copy ? NotFinite::pass_on : NotFinite::refuse;
    Written written = write(plan, target, command, policy, common, io);
    files = std::move(written.files);
    measured.errors = std::move(written.errors);
    warnings.insert(warnings.end(), written.warnings.begin(), written.warnings.end());
  }
  Output output = describe(request, plan, files, command, measured, chosen.notes);
  output.warnings = std::move(warnings);
  if (!command.writer.dry_run)
    for (const fs::path& path : files.files) output.written.push_back(path.string());
  emit_measured(std::move(output), {measured}, command.rmse, common, io);
  return 0;
}

}  // namespace

Command quantize_command() {
  return make_command("quantize", "a GGUF in another type, with llama-quantize's arguments and bytes", declare_quantize,
                      run_quantize, {.add_files = add_named_words});
}

}  // namespace ropewalk::tools
