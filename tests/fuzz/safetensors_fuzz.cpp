#include <map>

#include "formats/safetensors.h"
#include "lib/error.h"
#include "lib/recipes.h"
#include "tests/fuzz/fuzz.h"

using namespace ropewalk;
using namespace ropewalk::formats;

namespace {

std::string written(const std::vector<TensorPtr>& tensors, const std::map<std::string, std::string>& metadata) {
  const SafetensorsLayout layout = plan_safetensors(tensors, metadata);
  std::string out = layout.header;
  out.resize(layout.file_bytes);
  for (const auto& [tensor, offset] : layout.places)
    tensor->read_raw({0, tensor->info().rows()},
                     std::as_writable_bytes(std::span(out)).subspan(offset, tensor->info().bytes()));
  return out;
}

TensorPtr filled(std::string name, std::vector<std::uint64_t> shape, DType dtype) {
  TensorInfo tensor{.name = std::move(name), .shape = std::move(shape), .dtype = dtype};
  std::vector<std::byte> bytes(tensor.bytes(), std::byte{0x2a});
  return memory_tensor(std::move(tensor), std::move(bytes));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const MemoryFile input(data, size);
  SafetensorsFile file;
  try {
    file = read_safetensors(input.path());
  } catch (const Error& error) {
    require(error.kind() == ErrorKind::bad_input || error.kind() == ErrorKind::unsupported,
            "a refusal is about the input");
    require(error.where().offset && *error.where().offset <= size, "a refusal names a byte of the file");
    return 0;
  }
  std::uint64_t bytes = 0;
  for (const TensorPtr& tensor : file.tensors) bytes += tensor->info().bytes();
  require(bytes + 8 <= size, "the tensors lie inside the file");
  const std::string once = written(file.tensors, file.metadata);
  const MemoryFile copy(once);
  const SafetensorsFile again = read_safetensors(copy.path());
  require(again.metadata == file.metadata && again.tensors.size() == file.tensors.size(), "what we write reads back");
  require(written(again.tensors, again.metadata) == once, "written twice, the same bytes");
  return 0;
}

std::vector<std::string> fuzz_seeds() {
  return {written({}, {}),
          written({filled("a", {2, 3}, DType::f32), filled("b", {4}, DType::bf16), filled("c", {}, DType::f16),
                   filled("d", {0, 5}, DType::u8)},
                  {{"format", "pt"}}),
          written({filled("model.layers.0.self_attn.q_proj.weight", {8, 8}, DType::f16),
                   filled("q.absmax", {3}, DType::u8), filled("n", {1}, DType::i64)},
                  {})};
}
