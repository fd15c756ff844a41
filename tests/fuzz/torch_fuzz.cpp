#include "formats/torch/saved_object.h"
#include "formats/torch/torch_file.h"
#include "lib/error.h"
#include "tests/fuzz/fuzz.h"

using namespace ropewalk;
using namespace ropewalk::formats;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const MemoryFile input(data, size);
  try {
    require(read_saved_attributes(input.path()).is_object(), "attributes have names");
  } catch (const Error& error) {
    require(error.kind() == ErrorKind::bad_input || error.kind() == ErrorKind::unsupported,
            "a refusal is about the input");
  }
  TorchFile file;
  try {
    file = read_torch_file(input.path());
  } catch (const Error& error) {
    require(error.kind() == ErrorKind::bad_input || error.kind() == ErrorKind::unsupported,
            "a refusal is about the input");
    require(error.where().offset && *error.where().offset <= size, "a refusal names a byte of the file");
    return 0;
  }
  for (const TensorPtr& tensor : file.tensors) {
    require(tensor->info().bytes() <= size, "a tensor is no larger than the file");
    std::vector<float> values(tensor->info().elements());
    tensor->read_f32({0, tensor->info().rows()}, values);
  }
  return 0;
}

namespace {

template <class T>
std::string bytes(T value) {
  return {reinterpret_cast<const char*>(&value), sizeof value};
}

/// {name: tensor} of one storage of 6 floats; `shape` and `strides` as a pickle holds them.
std::string pickle(const std::string& shape, const std::string& strides) {
  const auto text = [](const std::string& value) {
    return "X" + bytes(static_cast<std::uint32_t>(value.size())) + value;
  };
  const std::string storage = "(" + text("storage") + "ctorch\nFloatStorage\n" + text("0") + text("cpu") + "K\x06tQ";
  return std::string("\x80\x02}q") + '\0' + "(" + text("a.weight") + "ctorch._utils\n_rebuild_tensor_v2\nq\x01(" +
         storage + std::string("K\0", 2) + shape + strides + "\x89" + "ccollections\nOrderedDict\n)RtRq\x02" +
         text("b") + "h\x02u.";
}

std::string zipped(const std::vector<std::pair<std::string, std::string>>& members) {
  std::string out, directory;
  for (const auto& [name, content] : members) {
    const std::string sizes = bytes(std::uint32_t{0}) + bytes(static_cast<std::uint32_t>(content.size())) +
                              bytes(static_cast<std::uint32_t>(content.size())) +
                              bytes(static_cast<std::uint16_t>(name.size())) + bytes(std::uint16_t{0});
    const std::string common = std::string(10, '\0') + sizes;
    directory += "PK\1\2" + bytes(std::uint16_t{0}) + common + std::string(10, '\0') +
                 bytes(static_cast<std::uint32_t>(out.size())) + name;
    out += "PK\3\4" + common + name + content;
  }
  const auto n = static_cast<std::uint16_t>(members.size());
  return out + directory + "PK\5\6" + bytes(std::uint32_t{0}) + bytes(n) + bytes(n) +
         bytes(static_cast<std::uint32_t>(directory.size())) + bytes(static_cast<std::uint32_t>(out.size())) +
         bytes(std::uint16_t{0});
}

}  // namespace

std::vector<std::string> fuzz_seeds() {
  const std::string values(24, '\x3f'), row = "K\x02K\x03\x86", rows = "K\x03K\x01\x86", columns = "K\x01K\x02\x86";
  std::string legacy =
      std::string("\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe9\x03.") + "\x80\x02}.";
  legacy += pickle(row, rows) +
            std::string(
                "\x80\x02]q\0(X\1\0\0\0"
                "0e.",
                15) +
            bytes(std::uint64_t{6}) + values;
  return {zipped({{"a/data.pkl", pickle(row, rows)}, {"a/byteorder", "little"}, {"a/data/0", values}}),
          zipped({{"a/data.pkl", pickle(row, columns)}, {"a/data/0", values}}), legacy};
}
