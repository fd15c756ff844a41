#include "formats/quantized/quantized.h"

#include <algorithm>
#include <array>

#include "formats/engines/model_types.h"
#include "formats/quantized/methods.h"
#include "lib/adapters/adapter_recipes.h"

namespace ropewalk::formats {
namespace {

using namespace quantized;

struct Reader {
  const char* method;
  Quantization (*read)(PackedTensors&, const Method&);
  /// A Conv1D becomes a linear layer, its weight transposed before it is packed (transformers 5.23.0 for bitsandbytes,
  /// AutoGPTQ and GPTQModel). Other methods' libraries pack no Conv1D.
  bool packs_conv1d = false;
};
constexpr std::array kReaders = {
    Reader{"bitsandbytes", read_bitsandbytes, true},       Reader{"gptq", read_gptq, true}, Reader{"awq", read_awq},
    Reader{"compressed-tensors", read_compressed_tensors}, Reader{"fp8", read_fp8},         Reader{"mxfp4", read_mxfp4},
};

/// quantization_config, or nullptr.
const Json* section(const Json& config) {
  if (!config.is_object()) return nullptr;
  const auto found = config.find("quantization_config");
  return found == config.end() || found->is_null() ? nullptr : &*found;
}

const Reader* reader(const ConfigText& config) {
  const Json* quantization = section(config.json);
  if (!quantization) return nullptr;
  const JsonFields fields(config.path, config.text, config.json);
  std::string method = "unknown";
  if (quantization->is_object() && quantization->contains("quant_method"))
    method = shown((*quantization)["quant_method"]);
  std::string known;
  for (const Reader& one : kReaders) {
    if (method == "\"" + std::string(one.method) + "\"") return &one;
    known += (known.empty() ? "" : ", ") + std::string(one.method);
  }
  fields.fail(ErrorKind::unsupported, "quantization_config",
              "the weights are quantized by method " + method + ", which is not read; read are " + known,
              "use the unquantized checkpoint it was made from");
}

/// [in, out] again, as the class has it, what was packed of Conv1D: each is whole in memory while it is read.
void stand_as_in_class(PackedTensors& packed, const Reader& method, const ConfigText& config) {
  const auto type_of = [](const Json& part) {
    const Json type = part.is_object() ? part.value("model_type", Json()) : Json();
    return type.is_string() ? type.get<std::string>() : std::string();
  };
  const std::string type = type_of(config.json);
  const std::optional<bool> conv1d = engines::has_conv1d(type);
  const bool inside = std::ranges::any_of(config.json, [&](const Json& part) {  // whose tensors are among others
    return engines::has_conv1d(type_of(part)).value_or(false);
  });
  if (conv1d == false && !inside) return;
  for (TensorPtr* tensor : packed.made()) {
    if (!engines::is_conv1d((*tensor)->name())) continue;
    if (conv1d == true && method.packs_conv1d) *tensor = transposed(*tensor);
    else
      throw Error(ErrorKind::unsupported, {.path = std::string((*tensor)->file())},
                  "'" + (*tensor)->name() + "' of a model of type \"" + type + "\"" + " is packed by " + method.method +
                      ", and " +
                      (conv1d == true ? "that packs no Conv1D: which side is the inputs is not known"
                                      : "whether it is a Conv1D, and packed transposed, only the class says"),
                  "use the unquantized checkpoint it was made from");
  }
}

}  // namespace

std::vector<std::string_view> quantized::method_names() {
  std::vector<std::string_view> names;
  for (const Reader& one : kReaders) names.emplace_back(one.method);
  return names;
}

// No library packs the float32 that transformers loads a checkpoint without a type in.
DType quantized::Method::dtype() const {
  for (const char* key : {"dtype", "torch_dtype"}) {
    const auto found = config.json.find(key);
    if (found == config.json.end() || found->is_null()) continue;
    const auto dtype = found->is_string() ? dtype_from_name(found->get_ref<const std::string&>()) : std::nullopt;
    if (dtype == DType::f16 || dtype == DType::bf16 || dtype == DType::f32) return *dtype;
    JsonFields(config.path, config.text, config.json)
        .fail(ErrorKind::unsupported, key,
              "'" + std::string(key) + "' is " + shown(*found) +
                  ", expected float16, bfloat16 or float32: what the weights are dequantized to",
              "correct the file");
  }
  const std::string silent = config.path + " says no dtype: the weights are dequantized to float16";
  if (std::ranges::find(warnings, silent) == warnings.end()) warnings.push_back(silent);
  return DType::f16;
}

std::optional<std::uint64_t> quantized::groups_said(const JsonFields& fields, const char* key, std::uint64_t in) {
  const auto size = fields.optional_integer(key, -1, std::int64_t(kMostWidth));
  if (!size) return std::nullopt;
  if (*size == 0)
    fields.fail(ErrorKind::bad_input, key, "'" + std::string(key) + "' is 0, expected a size or -1",
                "correct the file");
  return *size < 0 ? 1 : (in + std::uint64_t(*size) - 1) / std::uint64_t(*size);
}

void check_quantization_method(const ConfigText& config) { reader(config); }

std::optional<Quantization> dequantize(std::vector<TensorPtr>& tensors, const ConfigText& config,
                                       std::vector<std::string>& warnings) {
  const Reader* found = reader(config);
  if (!found) return std::nullopt;
  PackedTensors packed(std::move(tensors));
  Quantization quantization = found->read(packed, Method{config, *section(config.json), warnings});
  stand_as_in_class(packed, *found, config);
  quantization.bytes = packed.taken_bytes();
  tensors = packed.finish();
  for (const TensorPtr& tensor : tensors)
    if (tensor->dtype() == DType::f8_e4m3 || tensor->dtype() == DType::f8_e5m2)
      fail_packed(*tensor,
                  "holds " + std::string(info(tensor->dtype()).name) + " and no scale that is read stands beside it");
  if (quantization.weights == 0) {
    warnings.push_back(config.path + " says that the weights are quantized by " + found->method +
                       ", but none is packed: read as they are");
    return std::nullopt;
  }
  return quantization;
}

}  // namespace ropewalk::formats
