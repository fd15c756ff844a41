#include "formats/quantized/quantized.h"

#include <array>

#include "formats/quantized/methods.h"

namespace ropewalk::formats {
namespace {

using namespace quantized;

struct Reader {
  const char* method;
  Quantization (*read)(PackedTensors&, const Method&);
};
constexpr std::array kReaders = {
    Reader{"bitsandbytes", read_bitsandbytes},
    Reader{"gptq", read_gptq},
    Reader{"awq", read_awq},
    Reader{"compressed-tensors", read_compressed_tensors},
    Reader{"fp8", read_fp8},
    Reader{"mxfp4", read_mxfp4},
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

/// The type of the unquantized weights: what transformers loads a checkpoint without one in is float32, but no library
/// packs those.
DType dtype_of(const Json& config) {
  for (const char* key : {"dtype", "torch_dtype"})
    if (const auto found = config.find(key); found != config.end() && found->is_string())
      if (const auto dtype = dtype_from_name(found->get_ref<const std::string&>());
          dtype == DType::f16 || dtype == DType::bf16 || dtype == DType::f32)
        return *dtype;
  return DType::f16;
}

}  // namespace

void check_quantization_method(const ConfigText& config) { reader(config); }

std::optional<Quantization> dequantize(std::vector<TensorPtr>& tensors, const ConfigText& config,
                                       std::vector<std::string>& warnings) {
  const Reader* found = reader(config);
  if (!found) return std::nullopt;
  PackedTensors packed(std::move(tensors));
  Quantization quantization =
      found->read(packed, Method{config, *section(config.json), dtype_of(config.json), warnings});
  quantization.bytes = packed.taken_bytes();
  tensors = packed.finish();
  if (quantization.weights == 0) {
    warnings.push_back(config.path + " says that the weights are quantized by " + found->method +
                       ", but none is packed: read as they are");
    return std::nullopt;
  }
  return quantization;
}

}  // namespace ropewalk::formats
