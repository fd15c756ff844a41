#include "formats/safetensors.h"
#include "lib/error.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/seed_files.h"

using namespace ropewalk;
using namespace ropewalk::formats;

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
  const std::string once = safetensors_file(file.tensors, file.metadata);
  const MemoryFile copy(once);
  const SafetensorsFile again = read_safetensors(copy.path());
  require(again.metadata == file.metadata && again.tensors.size() == file.tensors.size(), "what we write reads back");
  require(safetensors_file(again.tensors, again.metadata) == once, "written twice, the same bytes");
  return 0;
}

std::vector<std::string> fuzz_seeds() {
  return {safetensors_file({}, {}),
          safetensors_file({filled("a", {2, 3}, DType::f32), filled("b", {4}, DType::bf16), filled("c", {}, DType::f16),
                            filled("d", {0, 5}, DType::u8)},
                           {{"format", "pt"}}),
          safetensors_file({filled("model.layers.0.self_attn.q_proj.weight", {8, 8}, DType::f16),
                            filled("q.absmax", {3}, DType::u8), filled("n", {1}, DType::i64)},
                           {})};
}
