// Quantized checkpoints: a safetensors file whose metadata has the config.json beside it.

#include <cstring>

#include "formats/quantized/quantized.h"
#include "formats/safetensors.h"
#include "lib/error.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/quantized_seeds.h"

using namespace ropewalk;
using namespace ropewalk::formats;

namespace {

constexpr const char* kConfig = "config";
constexpr std::uint64_t kMostElements = 1 << 18;  // values that are looked at

std::vector<float> rows_of(const LazyTensor& tensor, RowRange range) {
  std::vector<float> values(range.size() * tensor.info().columns());
  tensor.read_f32(range, values);
  return values;
}

void check_values(const LazyTensor& tensor) {
  const std::uint64_t rows = tensor.info().rows(), middle = rows / 3;
  const auto elements = element_count(tensor.info().shape);
  require(elements.has_value(), "a weight has as many elements as can be counted");
  if (*elements > kMostElements || *elements == 0) return;
  std::vector<float> whole = rows_of(tensor, {0, rows}), parts = rows_of(tensor, {0, middle});
  for (const float value : rows_of(tensor, {middle, rows})) parts.push_back(value);
  require(std::memcmp(whole.data(), parts.data(), whole.size() * sizeof(float)) == 0, "rows are the same in any part");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const MemoryFile input(data, size);
  try {
    SafetensorsFile file = read_safetensors(input.path());
    const auto found = file.metadata.find(kConfig);
    if (found == file.metadata.end()) return 0;
    const Json config = parse_json("config.json", found->second);
    std::vector<std::string> warnings;
    const auto quantization = dequantize(file.tensors, {"config.json", found->second, config}, warnings);
    if (!quantization) return 0;
    require(quantization->weights > 0 && quantization->bytes <= size, "what is packed lies inside the file");
    for (const TensorPtr& tensor : file.tensors) check_values(*tensor);
  } catch (const Error& error) {
    require(error.kind() == ErrorKind::bad_input || error.kind() == ErrorKind::unsupported,
            "a refusal is about the input");
    require(!error.where().path.empty() && !error.problem().empty() && !error.fix().empty(),
            "a refusal names the file, the problem and what to do");
  }
  return 0;
}

std::vector<std::string> fuzz_seeds() {
  std::vector<std::string> files;
  for (const QuantizedSeed& seed : quantized_seeds::all())
    files.push_back(safetensors_file(seed.tensors, {{kConfig, seed.config}}));
  return files;
}
