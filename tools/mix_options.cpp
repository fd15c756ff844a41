#include "tools/mix_options.h"

#include <algorithm>
#include <fstream>
#include <map>
#include <regex>

#include "lib/ascii_case.h"
#include "lib/codecs/encode.h"
#include "lib/error.h"
#include "lib/plural.h"

namespace ropewalk::tools {
namespace {

[[noreturn]] void refuse(const std::string& problem, const std::string& fix) {
  throw Error(ErrorKind::usage, {}, problem, fix);
}

formats::TensorTypeRule tensor_rule(const std::string& option, const std::string& text) {
  const auto sign = text.find('=');
  if (sign == std::string::npos || sign == 0 || sign + 1 == text.size())
    refuse(option + " is '" + text + "'", "give PATTERN=TYPE, such as attn_q=q8_0");
  const std::string pattern = lower_case(text.substr(0, sign));
  const DType dtype = ggml_type(option, text.substr(sign + 1));
  try {
    return {std::regex(pattern), dtype, text};
  } catch (const std::regex_error&) {
    refuse(option + " has the pattern '" + pattern + "', which is no regular expression",
           "write it as ECMAScript does");
  }
}

void add_rules_of_file(const std::string& path, std::vector<formats::TensorTypeRule>& rules) {
  std::ifstream file(path);
  if (!file) throw Error(ErrorKind::bad_input, {.path = path}, "cannot be opened", "check --tensor-type-file");
  for (std::string word; file >> word;) rules.push_back(tensor_rule("--tensor-type-file " + path, word));
}

}  // namespace

DType ggml_type(const std::string& option, const std::string& name) {
  const std::string lower = lower_case(name);
  for (const DTypeInfo& row : kDTypes)
    if (row.ggml_type >= 0 && row.name == lower) return row.dtype;
  refuse(option + " names the type '" + name + "'", "give one of ggml's: f32, f16, bf16, q8_0, q6_k, iq4_xs, ...");
}

std::string file_type_names() {
  std::string names;
  for (const formats::FileTypeInfo& row : formats::kFileTypes)
    names += (names.empty() ? "" : ", ") + std::string(row.name);
  return names;
}

void declare_mix(CommandLine& line, MixChoice& choice) {
  line.group("types of tensors under a mix", false);
  line.option("--mix", choice.mix, "VERSION", "whose rules choose each tensor's type: llama.cpp@0.5, the only one");
  line.flag("--allow-requantize", choice.allow_requantize,
            "quantize tensors that are quantized already; loses more than quantizing the original");
  line.flag("--leave-output-tensor", choice.leave_output, "leave output.weight as it is");
  line.flag("--pure", choice.pure, "no mix: every tensor in the same type");
  line.option("--output-tensor-type", choice.output_type, "T", "of output.weight");
  line.option("--token-embedding-type", choice.embedding_type, "T", "of token_embd.weight");
  line.ordered_option("--tensor-type", choice.tensor_types, "PATTERN=T",
                      "of tensors in whose names the pattern is found; repeatable, the first that matches counts");
  line.ordered_option("--tensor-type-file", choice.tensor_types, reads("FILE"), "such pairs, separated by white space");
  line.group("types chosen by measured error (--type auto)", false);
  line.option("--bpw", choice.bpw, "BITS", "least error within so many bits a weight, all tensors counted");
  line.bytes_option("--size", choice.size, "BYTES", "least error within a file of this size, e.g. 3.9G");
  line.option("--candidates", choice.candidates, "T[,T...]",
              "block types to choose from (default: fourteen, IQ2_XXS to Q8_0)");
  line.option("--save-plan", choice.save_plan, writes("FILE"), "keep the types chosen, as JSON");
  line.option("--plan", choice.plan, reads("FILE"), "the types of a plan that was kept");
  line.group("importance matrix", false);
  line.option("--imatrix", choice.imatrix, reads("FILE"), "importances by llama-imatrix, GGUF or .dat");
  line.option("--include-weights", choice.include_weights, "NAME", "use them for tensors with this in their name");
  line.option("--exclude-weights", choice.exclude_weights, "NAME",
              "do not use them for tensors with this in their name");
  line.flag("--imatrix-strict", choice.imatrix_strict,
            "an error if a tensor that could use importances has none (token_embd and output aside)");
}

bool chooses_types(const MixChoice& choice) { return choice.bpw || choice.size || choice.plan; }

bool is_given(const MixChoice& choice) {
  return choice.allow_requantize || choice.leave_output || choice.pure || choice.imatrix_strict || choice.imatrix ||
         chooses_types(choice) || choice.save_plan || choice.candidates || choice.output_type ||
         choice.embedding_type || choice.mix || !choice.include_weights.empty() || !choice.exclude_weights.empty() ||
         !choice.tensor_types.empty();
}

formats::QuantizeOptions parse_mix(const MixChoice& choice) {
  if (choice.mix && *choice.mix != formats::kMixVersion)
    refuse("--mix is '" + *choice.mix + "'", "the rules known are those of " + std::string(formats::kMixVersion));
  if (!choice.include_weights.empty() && !choice.exclude_weights.empty())
    refuse("--include-weights and --exclude-weights are both given", "give one of them");
  formats::QuantizeOptions options;
  options.mix.pure = choice.pure;
  options.mix.leave_output = choice.leave_output;
  if (choice.output_type) options.mix.output = ggml_type("--output-tensor-type", *choice.output_type);
  if (choice.embedding_type) options.mix.embedding = ggml_type("--token-embedding-type", *choice.embedding_type);
  for (const auto& [option, text] : choice.tensor_types)
    if (option == "--tensor-type") options.mix.rules.push_back(tensor_rule(option, text));
    else add_rules_of_file(text, options.mix.rules);
  options.allow_requantize = choice.allow_requantize;
  options.imatrix_file = choice.imatrix.value_or("");
  return options;
}

std::optional<formats::Imatrix> read_importances(const MixChoice& choice) {
  if (!choice.imatrix) {
    if (!choice.include_weights.empty() || !choice.exclude_weights.empty() || choice.imatrix_strict)
      refuse("options about importances, and no --imatrix", "give --imatrix FILE");
    return std::nullopt;
  }
  formats::Imatrix matrix = formats::read_imatrix(*choice.imatrix);
  const auto named_in = [](const std::string& name, const std::vector<std::string>& parts) {
    return std::any_of(parts.begin(), parts.end(),
                       [&](const std::string& part) { return name.find(part) != std::string::npos; });
  };
  std::erase_if(matrix.entries, [&](const auto& entry) {
    return named_in(entry.first, choice.exclude_weights) ||
           (!choice.include_weights.empty() && !named_in(entry.first, choice.include_weights));
  });
  if (matrix.entries.empty()) return std::nullopt;
  return matrix;
}

Coverage coverage_of(const formats::QuantizePlan& plan) {
  Coverage coverage;
  for (const formats::QuantizedTensor& tensor : plan.tensors) {
    if (tensor.to == tensor.from || !has_block_encoder(tensor.to) || importances_of(tensor.to) == Importances::ignored)
      continue;
    ++coverage.able;
    coverage.weighted += tensor.weighted ? 1 : 0;
    if (!tensor.experts_unseen.empty()) coverage.experts_unseen.emplace_back(tensor.name, tensor.experts_unseen);
    if (!tensor.weighted) coverage.unweighted.push_back(tensor.name);
  }
  return coverage;
}

namespace {

// The first eight, and how many more there are.
std::string first_listed(std::vector<std::string> names) {
  constexpr std::size_t kNamed = 8;
  if (names.size() > kNamed) {
    const std::string rest = plural(names.size() - kNamed, "other");
    names.resize(kNamed);
    names.push_back(rest);
  }
  return listed(names);
}

}  // namespace

std::string coverage_text(const Coverage& coverage) {
  std::string text =
      "importances cover " + std::to_string(coverage.weighted) + " of " + plural(coverage.able, "tensor");
  if (!coverage.unweighted.empty()) text += "; unweighted: " + first_listed(coverage.unweighted);
  std::vector<std::string> unseen;
  for (const auto& [tensor, experts] : coverage.experts_unseen) {
    std::vector<std::string> indices;
    for (const std::size_t expert : experts) indices.push_back(std::to_string(expert));
    unseen.push_back(first_listed(indices) + " of " + tensor);
  }
  if (!unseen.empty()) text += "; experts never hit: " + first_listed(unseen);
  return text;
}

void check_coverage(const Coverage& coverage, const MixChoice& choice) {
  if (!choice.imatrix_strict) return;
  for (const std::string& name : coverage.unweighted)
    if (name != "output.weight" && name != "token_embd.weight" && name != "per_layer_token_embd.weight")
      throw Error(ErrorKind::bad_input, {.path = *choice.imatrix}, "has nothing for tensor '" + name + "'",
                  "collect it with this model, or leave --imatrix-strict out");
}

std::vector<std::string> fallback_notes(const formats::QuantizePlan& plan) {
  std::map<std::pair<DType, DType>, std::size_t> fallbacks;
  for (const formats::QuantizedTensor& tensor : plan.tensors)
    if (tensor.wanted != tensor.to) ++fallbacks[{tensor.wanted, tensor.to}];
  std::vector<std::string> notes;
  for (const auto& [types, count] : fallbacks)
    notes.push_back(plural(count, "tensor") + " in " + std::string(info(types.second).name) + " instead of " +
                    std::string(info(types.first).name) + ": rows are not whole blocks of " +
                    std::to_string(info(types.first).block_elements));
  return notes;
}

std::vector<std::string> idle_rule_notes(const formats::QuantizeOptions& options, const formats::QuantizePlan& plan) {
  std::vector<std::string> notes;
  for (const formats::TensorTypeRule& rule : options.mix.rules)
    if (options.copy)
      notes.push_back("COPY leaves every tensor as it is: --tensor-type " + rule.text + " does nothing");
    else if (std::none_of(plan.tensors.begin(), plan.tensors.end(), [&](const formats::QuantizedTensor& tensor) {
               return std::regex_search(tensor.name, rule.pattern);
             }))
      notes.push_back("--tensor-type " + rule.text + " does nothing: its pattern matches no tensor");
  return notes;
}

}  // namespace ropewalk::tools
