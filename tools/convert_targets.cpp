#include "tools/convert_targets.h"

#include <algorithm>
#include <set>

#include "lib/ascii_case.h"
#include "lib/error.h"
#include "lib/file.h"
#include "lib/nearest_word.h"
#include "tools/describe.h"
#include "tools/output_plan.h"

namespace ropewalk::tools {
namespace {

namespace fs = std::filesystem;

/// What a mix starts from, as llama-quantize starts from a GGUF: the type of all matrices if they share one of 16 or 32
/// bits, else f32, so that nothing is lost on the way. Of a GGUF what it holds.
DType intermediate_of(const std::optional<std::string>& asked, const formats::Source& source) {
  if (asked) {
    const auto dtype = dtype_from_name(*asked);
    if (dtype == DType::f16 || dtype == DType::bf16 || dtype == DType::f32) return *dtype;
    throw Error(ErrorKind::usage, {}, "--intermediate is '" + *asked + "'", "give f16, bf16 or f32");
  }
  std::set<DType> dtypes;
  for (const TensorPtr& tensor : source.checkpoint.tensors)
    if (tensor->info().shape.size() > 1) dtypes.insert(tensor->dtype());
  const bool one = dtypes.size() == 1 && (dtypes.contains(DType::f16) || dtypes.contains(DType::bf16));
  return one ? *dtypes.begin() : DType::f32;
}

/// A name of llama-quantize's that is no plain type: nullopt for f16 and q8_0, which the converter writes too.
std::optional<formats::FileType> mix_named(const std::string& name) {
  const auto type = formats::file_type_from_name(name);
  const bool number = !name.empty() && std::isdigit(static_cast<unsigned char>(name.front())) != 0;
  if (!type || number || *type == formats::FileType::f32 || *type == formats::FileType::f16 ||
      *type == formats::FileType::bf16 || *type == formats::FileType::q8_0)
    return std::nullopt;
  return type;
}

/// In the types of their file, which "keep" encodes again what adapters changed in blocks.
std::vector<TensorPtr> kept_tensors(const formats::Source& source) {
  std::vector<TensorPtr> kept = source.checkpoint.tensors;
  for (std::size_t i = 0; i < kept.size(); ++i)
    if (kept[i] == source.exact_tensors[i]) kept[i] = source.base_tensors[i];
  return kept;
}

Target parse_type(const std::string& type, const formats::Source& source, const ConvertOptions& options) {
  Target target{.type = type};
  const std::optional<std::string>& intermediate = options.intermediate;
  if (type == "auto" && chooses_types(options.mix)) {
    target.mix = formats::FileType::q8_0;  // until the types are known
    target.dtype = intermediate_of(intermediate, source);
    target.automatic = true;
    return target;
  }
  std::string name = type;
  if (name.starts_with("hf:")) target.folder = true, name = name.substr(3);
  if (name == "auto" && !target.folder && !source.gguf) name = info(formats::gguf_auto_type(source)).name;
  if (name == "auto") name = "keep";
  if (name == "keep") {
    target.keep = source.gguf.has_value() || target.folder;
    target.dtype = dominant_dtype(kept_tensors(source));
    target.type = target.folder ? "hf:keep" : std::string(info(target.dtype).name);
    return target;
  }
  if (const auto mix = target.folder ? std::nullopt : mix_named(name)) {
    target.mix = mix;
    target.dtype = intermediate_of(intermediate, source);
    target.type = lower_case(std::string(info(*mix).name));
    return target;
  }
  const auto dtype = dtype_from_name(name);
  const bool known = dtype && (*dtype == DType::f32 || *dtype == DType::f16 || *dtype == DType::bf16 ||
                               (*dtype == DType::q8_0 && !target.folder));
  if (!known && dtype)
    throw Error(
        ErrorKind::unsupported, {}, "--type " + type + " cannot be written yet",
        target.folder ? "use hf:f16, hf:bf16 or hf:f32" : "use a type of llama-quantize's: ropewalk quantize --help");
  if (!known) {
    std::vector<std::string> names = {"f32", "f16", "bf16", "q8_0", "keep", "auto", "hf:f16", "hf:bf16", "hf:f32"};
    for (const formats::FileTypeInfo& row : formats::kFileTypes) names.push_back(lower_case(std::string(row.name)));
    const auto near = nearest_word(lower_case(type), names);
    throw Error(ErrorKind::usage, {}, type.empty() ? "--type holds an empty name" : "unknown --type '" + type + "'",
                near ? "did you mean " + *near + "?"
                     : "use f32, f16, bf16, q8_0, keep, auto, hf:f16, hf:bf16, hf:f32 or a mix such as q4_k_m");
  }
  target.dtype = *dtype;
  target.type = (target.folder ? "hf:" : "") + std::string(info(*dtype).name);
  return target;
}

void replace_all(std::string& text, const std::string& what, const std::string& with) {
  for (std::size_t at = 0; (at = text.find(what, at)) != std::string::npos; at += with.size())
    text.replace(at, what.size(), with);
}

/// {name}: --model-name, else the source's own, adapters' names after it.
std::string output_name(const ConvertOptions& options, const formats::Source& source) {
  if (options.model_name) {
    std::string name = *options.model_name;
    std::replace(name.begin(), name.end(), '/', '-');
    return name;
  }
  std::string name = model_name(source);
  for (const auto& adapter : source.adapters) {
    name += "-" + last_part(adapter.folder);
  }
  return name;
}

void expand(std::string& pattern, const std::string& name, const Target& target) {
  std::string type = target.type;
  std::replace(type.begin(), type.end(), ':', '-');
  replace_all(pattern, "{name}", name);
  for (const char* spelling : {"{type}", "{ftype}", "{outtype}"}) replace_all(pattern, spelling, type);
  for (const char* spelling : {"{TYPE}", "{FTYPE}", "{OUTTYPE}"}) replace_all(pattern, spelling, upper_case(type));
  const std::string last = last_part(pattern);
  if (const auto open = last.find('{'), close = last.find('}', std::min(open, last.size())); close != std::string::npos)
    throw Error(ErrorKind::usage, {.path = pattern},
                "the pattern's " + last.substr(open, close + 1 - open) + " stands for nothing",
                "use {name}, {type} or {TYPE}");
}

/// Where a target goes; `alone`: it is the only one, so that a folder may be DIR/ itself.
fs::path place(const ConvertOptions& options, const std::string& name, const Target& target, bool alone) {
  std::string pattern = options.output;
  bool patterned = pattern.find('{') != std::string::npos;
  expand(pattern, name, target);
  std::error_code ignored;
  if (pattern.ends_with('/') || fs::is_directory(pattern, ignored)) {
    if (alone && target.folder && (!fs::exists(pattern, ignored) || options.common.overwrite)) return pattern;
    pattern = (fs::path(pattern) / "{name}-{type}.gguf").string();
    expand(pattern, name, target);
    patterned = true;
  }
  fs::path path = pattern;
  if (target.folder && patterned && path.extension() == ".gguf") path.replace_extension();
  return path;
}

/// What only a GGUF has is not asked for in vain.
void refuse_unused(const ConvertOptions& options, const std::vector<Target>& targets, bool new_rope) {
  if (std::any_of(targets.begin(), targets.end(), [](const Target& target) { return !target.folder; })) return;
  const bool named = std::any_of(targets.begin(), targets.end(), [&](const Target& target) {  // {name} of the pattern
    return place(options, "a", target, targets.size() == 1) != place(options, "b", target, targets.size() == 1);
  });
  const char* unused = options.compat                                      ? "--compat"
                       : options.metadata                                  ? "--metadata"
                       : options.model_name && !named                      ? "--model-name"
                       : options.split_max_tensors                         ? "--split-max-tensors"
                       : options.no_tensor_first_split                     ? "--no-tensor-first-split"
                       : options.rmse                                      ? "--rmse"
                       : options.rope_encoding != "auto"                   ? "--rope-encoding"
                       : !options.rope.allowed_losses.empty() && !new_rope ? "--allow-loss"
                                                                           : nullptr;
  if (unused)
    throw Error(ErrorKind::usage, {},
                std::string(unused) + " is about GGUFs, and only Hugging Face folders are to be written",
                "leave it out, or add a GGUF --type");
}

}  // namespace

bool wants_gguf(const ConvertOptions& options) {
  const std::vector<std::string> types = split_list(options.types.value_or("auto"));
  return std::ranges::any_of(types, [](const std::string& type) { return !type.starts_with("hf:"); });
}

std::vector<Target> parse_targets(const ConvertOptions& options, const formats::Source& source) {
  std::vector<Target> targets;
  for (const std::string& type : split_list(options.types.value_or("auto")))
    targets.push_back(parse_type(type, source, options));
  const std::string name = output_name(options, source);
  std::set<fs::path> used;
  for (Target& target : targets) {
    target.path = place(options, name, target, targets.size() == 1);
    if (!used.insert(target.path.lexically_normal()).second)
      throw Error(ErrorKind::usage, {.path = target.path.string()}, "two outputs would have this name",
                  "use a pattern such as -o '{name}-{type}.gguf', or -o DIR/");
    check_output_name(target.path, target.folder ? OutputKind::folder : OutputKind::gguf);
  }
  refuse_unused(options, targets, source.spec.rope.has_value() || source.gguf);
  const bool mixes = std::any_of(targets.begin(), targets.end(), [](const Target& t) { return t.mix.has_value(); });
  if (!mixes && (options.intermediate || is_given(options.mix)))
    throw Error(ErrorKind::usage, {},
                std::string(options.intermediate ? "--intermediate" : "an option about mixes and importances") +
                    " is given, and no --type is a mix",
                "add one such as q4_k_m, or leave the option out");
  return targets;
}

std::optional<DType> type_of_blocks(const std::optional<std::string>& types) {
  const std::vector<std::string> names = split_list(types.value_or(""));
  if (names.size() != 1 || !names.front().starts_with("hf:")) return std::nullopt;
  return names.front() == "hf:keep" || names.front() == "hf:auto" ? DType::f16
                                                                  : dtype_from_name(names.front().substr(3));
}

formats::GgufSplit split_of(const ConvertOptions& options) {
  formats::GgufSplit split{.max_bytes = options.split_max_size,
                           .max_tensors = std::nullopt,
                           .no_tensor_first_split = options.no_tensor_first_split};
  if (options.split_max_tensors) split.max_tensors = static_cast<std::uint64_t>(*options.split_max_tensors);
  if (split.no_tensor_first_split && !split.max_bytes && !split.max_tensors)
    throw Error(ErrorKind::usage, {}, "--no-tensor-first-split without a split",
                "add --split-max-size or --split-max-tensors");
  return split;
}

}  // namespace ropewalk::tools
