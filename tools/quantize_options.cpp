#include "tools/quantize_options.h"

#include <algorithm>
#include <bit>
#include <charconv>

#include "lib/error.h"
#include "tools/auto_mix.h"

namespace ropewalk::tools {
namespace {

namespace fs = std::filesystem;

[[noreturn]] void refuse(const std::string& problem, const std::string& fix) {
  throw Error(ErrorKind::usage, {}, problem, fix);
}

bool is_word(std::string_view word, const char* lower) {
  return word.size() == 4 && std::equal(word.begin(), word.end(), lower, [](char a, char b) { return (a | 32) == b; });
}
bool is_copy(std::string_view word) { return is_word(word, "copy"); }
bool is_auto(std::string_view word) { return is_word(word, "auto"); }
bool is_type(std::string_view word) {
  return is_copy(word) || is_auto(word) || formats::file_type_from_name(word).has_value();
}

/// As output files are called: "Q4_K" where that was given.
std::string type_name(std::string_view word) {
  return is_copy(word) ? "COPY" : is_auto(word) ? "AUTO" : std::string(formats::find_file_type(word)->name);
}

template <class Number>
Number number_of(const std::string& option, const std::string& text) {
  Number value{};
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (code != std::errc() || end != text.data() + text.size()) refuse(option + " has '" + text + "'", "give a number");
  return value;
}

std::vector<int> layers_of(const std::vector<std::string>& lists) {
  std::vector<int> layers;
  for (const std::string& list : lists)
    for (const std::string& layer : split_list(list)) {
      layers.push_back(number_of<int>("--prune-layers", layer));
      if (layers.back() < 0) refuse("--prune-layers has '" + layer + "'", "layers count from 0");
    }
  std::sort(layers.begin(), layers.end());
  layers.erase(std::unique(layers.begin(), layers.end()), layers.end());
  return layers;
}

/// KEY=TYPE:VALUE; integers become u32, as llama-quantize 0.5 writes them.
formats::GgufKey override_of(const std::string& text) {
  const auto sign = text.find('='), colon = text.find(':', sign == std::string::npos ? 0 : sign);
  if (sign == std::string::npos || sign == 0 || sign >= 128 || colon == std::string::npos)
    refuse("--override-kv is '" + text + "'", "give KEY=TYPE:VALUE with type int, float, bool or str");
  const std::string key = text.substr(0, sign), type = text.substr(sign + 1, colon - sign - 1),
                    value = text.substr(colon + 1), option = "--override-kv " + key;
  if (type == "int") {
    const auto number = number_of<std::int64_t>(option, value);
    const auto size = number < 0 ? std::uint64_t{0} - std::uint64_t(number) : std::uint64_t(number);
    if (size > UINT32_MAX) refuse(option + " has '" + value + "'", "integers are written as u32");
    if (key == "general.alignment" && !std::has_single_bit(size))
      refuse(option + " has '" + value + "'", "give a power of two: no reader takes another");
    return {key, formats::gguf_u32(std::uint32_t(size))};
  }
  if (type == "float") return {key, formats::gguf_f32(float(number_of<double>(option, value)))};
  if (type == "bool" && (value == "true" || value == "false")) return {key, formats::gguf_bool(value == "true")};
  if (type == "str" && value.size() <= 127) return {key, formats::gguf_string(value)};
  refuse("--override-kv is '" + text + "'",
         "give int:N, float:X, bool:true, bool:false or str:TEXT with at most 127 bytes");
}

/// Beside the input, as llama-quantize names it.
fs::path default_output(const fs::path& input, const std::string& type, bool keep_split) {
  return input.parent_path() / ("ggml-model-" + type + (keep_split ? "" : ".gguf"));
}

}  // namespace

void declare_quantize(CommandLine& line, QuantizeCommand& command) {
  line.positionals(command.words, "WORD",
                   "IN.gguf [OUT.gguf] TYPE [THREADS], as for llama-quantize. TYPE: " + file_type_names() +
                       ", COPY, or AUTO with --bpw, --size or --plan",
                   1);
  line.flag("--keep-split", command.keep_split, "write the shards of the input");
  line.option("--prune-layers", command.prune_layers, "L,L,...", "leave these layers out and number the others anew");
  line.option("--override-kv", command.override_kv, "KEY=TYPE:VALUE",
              "set a metadata key: int, float, bool or str; repeatable");
  line.option("--max-buffer-size", command.max_buffer_mib, 1, 1 << 30, "MIB",
              "accepted as llama-quantize takes it; memory is a few rows per thread anyway");
  line.flag("--saturate", command.saturate, "clamp what a type cannot hold instead of refusing it");
  declare_mix(line, command.mix);
  declare_writer(line, command.writer);
  line.flag("--sha256", command.sha256, "print the sha256 of each file written (reads them again)");
  line.flag("--rmse", command.rmse,
            "report what each tensor's encoding has lost, measured as it is written; --report does too");
  declare_common(line, command.common);
  line.example("ropewalk quantize model-f16.gguf model-Q4_K_M.gguf Q4_K_M", "the bytes of llama-quantize 0.5");
  line.example("ropewalk quantize --bpw 4.5 --save-plan plan.json model-f16.gguf model-auto.gguf AUTO",
               "each tensor's type by its measured error, within 4.5 bits a weight");
  line.example("ropewalk quantize --imatrix model.imatrix.gguf model-f16.gguf IQ3_XS 8",
               "ggml-model-IQ3_XS.gguf beside the input, with 8 threads");
}

void add_named_words(const QuantizeCommand& command, std::vector<NamedFile>& files) {
  const std::vector<std::string>& words = command.words;
  if (!words.empty()) files.push_back({Role::reads, "IN", words[0]});
  if (words.size() > 2 && !is_type(words[1])) files.push_back({Role::writes, "--output", words[1]});
}

QuantizeRequest parse_quantize(const QuantizeCommand& command) {
  const std::vector<std::string>& words = command.words;
  if (words.size() < 2) refuse("no TYPE is given", "types are " + file_type_names() + ", COPY");
  const bool named = !is_type(words[1]);  // IN OUT TYPE, not IN TYPE
  const std::size_t type_at = named ? 2 : 1;
  if (words.size() <= type_at)
    refuse("'" + words[1] + "' is no type, and none follows it", "types are " + file_type_names() + ", COPY");
  if (!is_type(words[type_at]))
    refuse("'" + words[type_at] + "' is no type", "types are " + file_type_names() + ", COPY");
  if (words.size() > type_at + 2)
    refuse("'" + words[type_at + 2] + "' is one word too many", "give IN.gguf [OUT.gguf] TYPE [THREADS]");

  QuantizeRequest request;
  request.input = words[0];
  request.type = type_name(words[type_at]);
  request.output = named ? fs::path(words[1]) : default_output(request.input, request.type, command.keep_split);
  if (command.keep_split && request.output.extension() == ".gguf") request.output.replace_extension();
  if (words.size() > type_at + 1) {
    request.threads = number_of<int>("THREADS", words[type_at + 1]);
    if (*request.threads > 4096) refuse("THREADS is " + words[type_at + 1], "give at most 4096");
  }
  request.options = parse_mix(command.mix);
  formats::QuantizeOptions& options = request.options;
  options.copy = request.type == "COPY";
  options.saturate = command.saturate;
  request.automatic = request.type == "AUTO";
  if (request.automatic) check_auto(command.mix);
  else if (chooses_types(command.mix) || command.mix.save_plan || command.mix.candidates)
    refuse("types are to be chosen, and TYPE is " + request.type, "give AUTO as TYPE, or leave those options out");
  else if (!options.copy) options.mix.type = formats::file_type_from_name(words[type_at]).value();
  options.prune_layers = layers_of(command.prune_layers);
  for (const std::string& text : command.override_kv) options.override_keys.push_back(override_of(text));
  return request;
}

}  // namespace ropewalk::tools
