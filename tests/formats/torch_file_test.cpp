// torch.save of torch 2.15.0 (tests/golden/torch.tar.zst, make_torch.py), and files that would run something.

#include "formats/torch/torch_file.h"

#include <map>

#include "formats/safetensors.h"
#include "formats/source.h"
#include "lib/recipes.h"
#include "tests/formats/hf_test_support.h"
#include "tests/lib/any_partition.h"

namespace ropewalk::formats {
namespace {

const fs::path kTorch = kGolden / "torch";

std::map<std::string, TensorPtr> by_name(const std::vector<TensorPtr>& tensors) {
  std::map<std::string, TensorPtr> out;
  for (const TensorPtr& tensor : tensors) out[tensor->name()] = tensor;
  return out;
}

TEST(TorchFile, TensorsOfEveryTypeAndLayout) {
  const auto expected = by_name(read_safetensors(kTorch / "expected.safetensors").tensors);
  std::set<std::string> seen;
  for (const char* name : {"zip.bin", "legacy.bin", "protocol4.bin", "state_dict.bin"}) {
    SCOPED_TRACE(name);
    const TorchFile file = read_torch_file(kTorch / name);
    EXPECT_GE(file.tensors.size(), 4u);
    for (const TensorPtr& tensor : file.tensors) {
      SCOPED_TRACE(tensor->name());
      const TensorPtr& want = expected.at(tensor->name());
      EXPECT_EQ(tensor->info().shape, want->info().shape);
      EXPECT_EQ(tensor->dtype(), want->dtype());
      EXPECT_EQ(raw_bytes(*tensor), raw_bytes(*want));
      EXPECT_EQ(tensor->file(), (kTorch / name).string());
      if (tensor->info().elements() > 0) expect_any_partition_agrees(*tensor);
      seen.insert(tensor->name());
    }
  }
  EXPECT_EQ(seen.size(), expected.size());
}

TEST(TorchFile, AShardedCheckpointIsTheSafetensorsOne) {
  const auto expected = by_name(read_safetensors(kGolden / "peft/bases/llama-f16/model.safetensors").tensors);
  for (const char* path : {"", "pytorch_model.bin.index.json", "pytorch_model-00002-of-00002.bin"}) {
    const Source source = open_source(parse_source((kTorch / "sharded" / path).string()), {}, {});
    EXPECT_EQ(source.checkpoint.tensors.size(), expected.size());
    for (const TensorPtr& tensor : source.checkpoint.tensors)
      EXPECT_EQ(raw_bytes(*tensor), raw_bytes(*expected.at(tensor->name()))) << tensor->name();
  }
}

// picklescan's collection and others: what is refused, and why. None holds a dictionary of tensors, so all must be. Nothing
// can run: the reader has no way to; that it names what the pickle asks for shows that it looked.
TEST(TorchFile, HostileFilesAreRefusedByName) {
  std::map<std::string, std::string> said;
  for (const auto& entry : fs::recursive_directory_iterator(kTorch / "hostile")) {
    if (!entry.is_regular_file() || entry.path().filename() == "LICENSE") continue;
    try {
      read_torch_file(entry.path());
      ADD_FAILURE() << entry.path() << " was read";
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::bad_input) << error.what();
      EXPECT_TRUE(error.where().offset) << error.what();
      EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos) << error.what();
      said[entry.path().filename().string()] = error.problem();
    }
  }
  EXPECT_GE(said.size(), 105u);
  const auto names = [&](const char* file, const char* name) {
    EXPECT_NE(said[file].find(std::string("names '") + name + "'"), std::string::npos) << file << ": " << said[file];
  };
  names("malicious1_v3.pkl", "builtins.eval");
  names("malicious1_v4.pkl", "builtins.eval");
  names("malicious5.pickle", "aiohttp.client.ClientSession");
  names("types_CodeType.pkl", "types.CodeType");
  std::size_t named = 0;
  for (const auto& [file, problem] : said) named += problem.find("the pickle names '") == 0 ? 1 : 0;
  EXPECT_GE(named, 60u);

  expect_error(ErrorKind::bad_input, {"names 'torch.nn.modules.container.Sequential'", "nothing of it was run"},
               [&] { read_torch_file(kTorch / "refused/module.bin"); });
  expect_error(ErrorKind::unsupported, {"'x' [6, 2] has strides [4, 2]", "tensor.contiguous()"},
               [&] { read_torch_file(kTorch / "refused/strided.bin"); });
  expect_error(ErrorKind::unsupported, {"'x' [6, 4] has strides [0, 1]"},
               [&] { read_torch_file(kTorch / "refused/expanded.bin"); });
  expect_error(ErrorKind::bad_input, {"'state_dict' is no tensor"},
               [&] { read_torch_file(kTorch / "refused/nested.bin"); });
  expect_error(ErrorKind::bad_input, {"holds no dictionary"}, [&] { read_torch_file(kTorch / "refused/list.bin"); });
  expect_error(ErrorKind::bad_input, {"'step' is no tensor"}, [&] { read_torch_file(kTorch / "refused/number.bin"); });
}

TEST(TorchFile, EveryPrefixIsRefused) {
  TestFolder folder;
  for (const char* name : {"state_dict.bin", "legacy.bin"}) {
    const std::string whole = read_bytes(kTorch / name);
    for (std::size_t n = 0; n < whole.size(); n += n < 300 || n + 100 > whole.size() ? 1 : 61) {
      write_bytes(folder / "cut.bin", whole.substr(0, n));
      try {
        read_torch_file(folder / "cut.bin");
        ADD_FAILURE() << name << ": " << n << " bytes were read";
      } catch (const Error& error) {
        EXPECT_EQ(error.kind(), ErrorKind::bad_input) << error.what();
      }
    }
  }
}

/// The state_dict's file with every occurrence of `from` replaced by as many bytes.
std::string with(std::string bytes, const std::string& from, const std::string& to) {
  EXPECT_EQ(from.size(), to.size());
  std::size_t n = 0;
  for (std::size_t at = 0; (at = bytes.find(from, at)) != std::string::npos; at += from.size(), ++n)
    bytes.replace(at, from.size(), to);
  EXPECT_GT(n, 0u) << from;
  return bytes;
}

// Fields that lie, each refused for its own reason.
TEST(TorchFile, FieldsThatLie) {
  TestFolder folder;
  const auto refused = [&](const std::string& bytes, const std::vector<std::string>& parts,
                           ErrorKind kind = ErrorKind::bad_input) {
    write_bytes(folder / "a.bin", bytes);
    expect_error(kind, parts, [&] { read_torch_file(folder / "a.bin"); });
  };
  const std::string zip = read_bytes(kTorch / "state_dict.bin"), legacy = read_bytes(kTorch / "legacy.bin");
  refused(with(zip, "little", "big   "), {"byte order"}, ErrorKind::unsupported);
  refused(with(zip, "data/2", "data/9"), {"of a storage that is not in the file"});
  refused(with(zip, "data/2", "data/1"), {"two members of the zip file have one name"});
  refused(with(zip, "_rebuild_tensor_v2", "_rebuild_tensor_v9"), {"names 'torch._utils._rebuild_tensor_v9'"});
  refused(with(zip, "FloatStorage", "ThingStorage"), {"names 'torch.ThingStorage'"});
  const std::string shape = "K\x03K\x04\x86", strides = "K\x04K\x01\x86";  // of the first weight, [3, 4]
  refused(with(zip, shape, "K\x03K\x05\x86"), {"'0.weight' [3, 5] needs 15 elements"});
  refused(with(zip, shape, "K\x04K\x03\x86"), {"'0.weight' [4, 3] has strides [4, 1]"}, ErrorKind::unsupported);
  refused(with(zip, strides, "K\x09K\x01\x86"), {"has strides [9, 1]"}, ErrorKind::unsupported);
  refused(with(legacy, std::string("\x02M\xe9\x03."), std::string("\x02M\xe8\x03.")), {"is not 1001"},
          ErrorKind::unsupported);
  refused("PK\3\4" + std::string(100, '\0'), {"has no end record"});
  refused("GGUF", {"neither a zip file nor a pickle"});
  refused("", {"neither a zip file nor a pickle"});
  std::string nested = "\x80\x02";  // 100,000 lists, each in the next
  for (int i = 0; i < 100'000; ++i) nested += "]";
  for (int i = 1; i < 100'000; ++i) nested += "a";
  refused(nested + ".", {"does not begin with torch's number"});
  std::string doubling = "\x80\x02]q\x01";  // a list put into itself and itself again
  for (int i = 0; i < 1000; ++i)
    doubling +=
        "(h\x01h\x01h\x01"
        "e";
  refused(doubling + ".", {"does not begin with torch's number"});
  refused(std::string("\x80\x02X\xff\xff\xff\xff", 7) + "abc", {"needs 4294967295 bytes, 3 are left"});
  refused("\x80\x02h\x07.", {"recalls value 7"});
  refused("\x80\x02u.", {"closes a mark"});
  refused(
      "\x80\x02"
      "ciposix\nsystem\n.",
      {"names 'iposix.system'"});
  refused("\x80\x02(S'ls'\niposix\nsystem\n.", {"operation 0x53 ('S')"});
}

}  // namespace
}  // namespace ropewalk::formats
