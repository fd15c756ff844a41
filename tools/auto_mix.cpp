#include "tools/auto_mix.h"

#include <algorithm>
#include <charconv>
#include <map>

#include "formats/gguf_write.h"
#include "formats/json.h"
#include "formats/quantize/auto_types.h"
#include "lib/codecs/encode.h"
#include "lib/encoding_error.h"
#include "lib/error.h"
#include "lib/plural.h"
#include "tools/output_plan.h"
#include "tools/units.h"

namespace ropewalk::tools {
namespace {

constexpr const char* kPlanKey = "ropewalk_plan";

[[noreturn]] void refuse(const std::string& problem, const std::string& fix) {
  throw Error(ErrorKind::usage, {}, problem, fix);
}

std::uint64_t bytes_of(const formats::GgufPlan& plan) {
  std::uint64_t bytes = 0;
  for (const formats::GgufTensorPlan& tensor : plan.tensors)
    bytes += byte_size(tensor.dtype, tensor.tensor->info().elements()).value_or(0);
  return bytes;
}
std::uint64_t elements_of(const formats::GgufPlan& plan) {
  std::uint64_t elements = 0;
  for (const formats::GgufTensorPlan& tensor : plan.tensors) elements += tensor.tensor->info().elements();
  return elements;
}
double bits_a_weight(const formats::GgufPlan& plan) { return 8.0 * double(bytes_of(plan)) / double(elements_of(plan)); }

double number_from(const std::string& option, const std::string& text) {
  double value = 0;
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (code != std::errc() || end != text.data() + text.size()) refuse(option + " has '" + text + "'", "give a number");
  if (!(value > 0 && value <= 32)) refuse(option + " has '" + text + "'", "give bits a weight, such as 4.5");
  return value;
}

std::vector<DType> candidates_of(const MixChoice& choice) {
  if (!choice.candidates) {
    const auto all = formats::auto_candidates();
    return {all.begin(), all.end()};
  }
  std::vector<DType> candidates;
  for (const std::string& name : split_list(*choice.candidates)) candidates.push_back(ggml_type("--candidates", name));
  return candidates;
}

/// Every open tensor in every candidate: one read, nothing written.
std::vector<std::vector<formats::TypeChoice>> measure(const std::vector<formats::OpenTensor>& open,
                                                      const CommonOptions& common, const Io& io) {
  std::vector<std::vector<std::unique_ptr<EncodingErrors>>> errors;
  StreamPlan pass;
  for (const formats::OpenTensor& tensor : open) {
    errors.emplace_back();
    for (const DType dtype : tensor.candidates) {
      errors.back().push_back(std::make_unique<EncodingErrors>());
      const bool weighted = importances_of(dtype) != Importances::ignored;
      pass.add(tensor.plan.tensor, {dtype, nullptr, 0, tensor.plan.out_of_range, nullptr,
                                    weighted ? tensor.plan.importances : nullptr, errors.back().back().get()});
    }
  }
  stream_pass(pass, "measuring", common, io);
  std::vector<std::vector<formats::TypeChoice>> choices;
  for (std::size_t i = 0; i < open.size(); ++i) {
    choices.emplace_back();
    for (std::size_t c = 0; c < open[i].candidates.size(); ++c) {
      const EncodingError total = errors[i][c]->total();
      const double reference = total.weighted_reference;
      choices.back().push_back({open[i].candidates[c],
                                byte_size(open[i].candidates[c], open[i].plan.tensor->info().elements()).value_or(0),
                                reference > 0 ? open[i].sensitivity * total.weighted_squares / reference : 0});
    }
  }
  return choices;
}

/// Bytes that are there for the open tensors: of the whole file for --size, of all tensors for --bpw.
std::uint64_t budget_of(const MixChoice& choice, const formats::QuantizePlan& smallest, std::uint64_t open_bytes) {
  const std::uint64_t fixed = bytes_of(smallest.plan) - open_bytes;
  double all = 0;
  if (choice.size) {
    // header, and up to an alignment after each tensor
    const std::uint64_t beside = formats::planned_files(smallest.plan, {"x.gguf"}).bytes - bytes_of(smallest.plan) +
                                 smallest.plan.alignment * smallest.plan.tensors.size();
    all = double(*choice.size) - double(beside);
  } else {
    all = number_from("--bpw", *choice.bpw) * double(elements_of(smallest.plan)) / 8;
  }
  const double open = all - double(fixed);
  if (open < double(open_bytes))
    refuse(choice.size ? "--size is " + std::to_string(*choice.size) + " bytes, and the smallest candidates take " +
                             bytes_text(formats::planned_files(smallest.plan, {"x.gguf"}).bytes)
                       : "--bpw is " + *choice.bpw + ", and the smallest candidates take " +
                             fixed_text(bits_a_weight(smallest.plan), 3),
           "give more, or smaller types with --candidates (the smallest need --imatrix)");
  return static_cast<std::uint64_t>(open);
}

formats::QuantizePlan with_types(const formats::GgufPlan& source, const std::string& path,
                                 const formats::QuantizeOptions& options, std::map<std::string, DType> types) {
  formats::QuantizeOptions exact = options;
  exact.mix.exact = std::move(types);
  exact.mix.type = formats::FileType::q8_0;
  const formats::QuantizePlan plan = formats::quantize_plan(source, path, exact);
  exact.mix.type = formats::file_type_of(plan.tensors, plan.plan.tensors);
  return formats::quantize_plan(source, path, exact);
}

std::map<std::string, DType> measured_types(const formats::GgufPlan& source, const std::string& path,
                                            const formats::QuantizeOptions& options, const MixChoice& choice,
                                            const CommonOptions& common, const Io& io) {
  const std::vector<formats::OpenTensor> open = formats::open_tensors(source, path, options, candidates_of(choice));
  if (open.empty()) refuse("there is no tensor whose type could be chosen", "name the types, or another mix");
  std::map<std::string, DType> types;
  std::uint64_t open_bytes = 0;
  for (const formats::OpenTensor& tensor : open) {
    types[tensor.name] = tensor.candidates.front();
    open_bytes += byte_size(tensor.candidates.front(), tensor.plan.tensor->info().elements()).value_or(0);
  }
  const std::uint64_t budget = budget_of(choice, with_types(source, path, options, types), open_bytes);
  const auto choices = measure(open, common, io);
  const std::vector<std::size_t> chosen = formats::choose_types(choices, budget);
  for (std::size_t i = 0; i < open.size(); ++i) types[open[i].name] = choices[i][chosen[i]].dtype;
  return types;
}

struct Planned {
  std::map<std::string, DType> types;
  bool weighted = false;  // by importances; the same bytes need them again
};
Planned read_plan(const std::string& path) {
  const Json json = formats::read_json(path);
  const auto fail = [&](const std::string& problem) {
    throw Error(ErrorKind::bad_input, {.path = path}, problem, "give a file that --save-plan wrote");
  };
  if (!json.is_object() || !json.contains(kPlanKey) || json[kPlanKey] != 1 || !json.contains("types") ||
      !json["types"].is_object())
    fail("is no plan of types: expected {\"" + std::string(kPlanKey) + "\": 1, \"types\": {NAME: TYPE}}");
  Planned plan{{}, json.contains("importances") && !json["importances"].is_null()};
  for (const auto& [name, type] : json["types"].items()) {
    const auto dtype = type.is_string() ? dtype_from_name(type.get<std::string>()) : std::nullopt;
    if (!dtype || info(*dtype).ggml_type < 0) fail("gives '" + name + "' the type " + type.dump());
    plan.types[name] = *dtype;
  }
  return plan;
}

/// A plan is of just the tensors there are.
void check_plan(const std::string& path, const std::map<std::string, DType>& types, const formats::QuantizePlan& plan) {
  const auto fail = [&](const std::string& name, const char* what) {
    throw Error(ErrorKind::bad_input, {.path = path}, what + (" '" + name + "'"), "give the plan of this model");
  };
  std::map<std::string, DType> rest = types;
  for (const formats::QuantizedTensor& tensor : plan.tensors)
    if (rest.erase(tensor.name) == 0) fail(tensor.name, "has no type for tensor");
  if (!rest.empty()) fail(rest.begin()->first, "has a type for a tensor that is not there:");
}

Json plan_json(const formats::QuantizePlan& plan, const MixChoice& choice) {
  Json types = Json::object();
  for (const formats::QuantizedTensor& tensor : plan.tensors) types[tensor.name] = info(tensor.to).name;
  return {{kPlanKey, 1},
          {"bits_a_weight", bits_a_weight(plan.plan)},
          {"importances", choice.imatrix ? Json(*choice.imatrix) : Json(nullptr)},
          {"types", types}};
}

/// "blk.*.attn_v.weight: 12 q5_k, 4 q6_k", a line a kind of tensor, of those that were encoded anew.
std::vector<std::string> plan_lines(const formats::QuantizePlan& plan) {
  std::map<std::string, std::map<DType, std::size_t>> kinds;
  for (const formats::QuantizedTensor& tensor : plan.tensors) {
    if (!is_block_type(tensor.to)) continue;
    std::string kind = tensor.name;
    if (const auto dot = kind.find('.', 4); kind.starts_with("blk.") && dot != std::string::npos)
      kind.replace(4, dot - 4, "*");
    ++kinds[kind][tensor.to];
  }
  std::vector<std::string> lines;
  for (const auto& [kind, types] : kinds) {
    std::string line;
    for (const auto& [dtype, count] : types)
      line += (line.empty() ? "" : ", ") + (types.size() == 1 && count == 1 ? "" : std::to_string(count) + " ") +
              std::string(info(dtype).name);
    lines.push_back(kind + ": " + line);
  }
  return lines;
}

}  // namespace

void check_auto(const MixChoice& choice) {
  const int given = int(choice.bpw.has_value()) + int(choice.size.has_value()) + int(choice.plan.has_value());
  if (given != 1)
    refuse(given == 0 ? "no budget for the types to be chosen by" : "--bpw, --size and --plan are one choice",
           "give one of --bpw BITS, --size BYTES and --plan FILE");
  if (choice.pure) refuse("--pure, and types to be chosen", "leave --pure out, or name the type");
  if (choice.plan &&
      (choice.leave_output || choice.output_type || choice.embedding_type || !choice.tensor_types.empty()))
    refuse("--plan names every tensor's type, and another option does too", "leave that out, or edit the plan");
  if (choice.plan && choice.candidates) refuse("--candidates are for --bpw and --size", "leave it out with --plan");
  if (choice.bpw) (void)number_from("--bpw", *choice.bpw);
  (void)candidates_of(choice);
}

AutoMix auto_mix(const formats::GgufPlan& source, const std::string& path, const formats::QuantizeOptions& options,
                 const MixChoice& choice, const CommonOptions& common, bool dry_run, const Io& io) {
  const Planned planned =
      choice.plan ? read_plan(*choice.plan) : Planned{measured_types(source, path, options, choice, common, io)};
  AutoMix out{with_types(source, path, options, planned.types), {}};
  if (choice.plan) check_plan(*choice.plan, planned.types, out.plan);
  if (planned.weighted && !options.imatrix)
    out.notes.push_back("the plan was made with importances, and no --imatrix is given: the bytes will be others");
  std::string how = choice.plan   ? "types by the plan " + *choice.plan
                    : choice.size ? "types by measured error for a file of " + bytes_text(*choice.size)
                                  : "types by measured error for " + *choice.bpw + " bits a weight";
  if (!choice.plan && options.imatrix) how += ", weighted by importances";
  out.notes.push_back(how + ": " + fixed_text(bits_a_weight(out.plan.plan), 3) + " bits a weight");
  for (std::string& line : plan_lines(out.plan)) out.notes.push_back(std::move(line));
  if (choice.save_plan && !dry_run)
    write_file(*choice.save_plan, plan_json(out.plan, choice).dump(1) + "\n", {.overwrite = common.overwrite});
  return out;
}

}  // namespace ropewalk::tools
