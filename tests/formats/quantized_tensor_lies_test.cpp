// Quantized checkpoints with one tensor that lies: missing, twice, of another type, of another shape, larger than its file.

#include <gtest/gtest.h>

#include <set>

#include "tests/formats/quantized_lies.h"

namespace ropewalk::formats {
namespace {

/// The same number of elements in other bytes, or other elements: nothing but zeros.
TensorPtr another(const LazyTensor& tensor, std::vector<std::uint64_t> shape, DType dtype) {
  return filled(tensor.name(), std::move(shape), dtype, 0);
}

/// Changes that make another checkpoint, right in itself, and are accepted as that: why, and "SEED TENSOR LIE". A weight's
/// own shape is held against config.json where the model's tensors are counted (tensor_inventory.h).
const std::map<std::string, std::vector<std::string>> kOtherCheckpoints = {
    {"inputs in order", {"gptq m.g_idx is missing"}},
    {"a type that scales have",
     {"gptq m.scales is f32", "gptq m.scales is bf16", "gptq-3bit m.scales is f32", "gptq-3bit m.scales is f16",
      "awq m.scales is f32", "awq m.scales is bf16", "compressed-packed m.weight_scale is f32",
      "compressed-packed m.weight_scale is bf16", "compressed-int a.weight_scale is f32",
      "compressed-int a.weight_scale is bf16", "compressed-float a.weight_scale is f16",
      "compressed-float a.weight_scale is bf16", "fp8 m.weight_scale_inv is f16", "fp8 m.weight_scale_inv is bf16",
      "fp8 m.weight_scale_inv is u8", "mxfp8 m.weight_scale_inv is f32", "mxfp8 m.weight_scale_inv is f16",
      "mxfp8 m.weight_scale_inv is bf16"}},
    {"another number of scales in each row",
     {"compressed-float a.weight_scale [4]", "compressed-float a.weight_scale [4, 2]"}},
    {"a last block that is cut off, or whole",
     {"compressed-int a.weight [4, 31]", "compressed-int a.weight [3, 32]", "fp8 m.weight [6, 20]",
      "fp8 m.weight [5, 21]", "fp8 m.weight [5, 19]", "mxfp8 m.weight [5, 63]"}},
    {"rows of another length, with one scale each",
     {"compressed-float a.weight [4, 33]", "compressed-float a.weight [4, 31]", "bitsandbytes-int8 m.weight [2, 9]",
      "bitsandbytes-int8 m.weight [2, 7]"}},
    {"bytes that are stored in any type and shape",
     {"bitsandbytes-nf4 m.weight is i8", "bitsandbytes-nf4 m.weight [64]", "bitsandbytes-nf4 m.weight [64, 1, 1]"}},
};

TEST(QuantizedTensorLies, AreSeen) {
  std::set<std::string> allowed, others;
  for (const auto& [why, changes] : kOtherCheckpoints) allowed.insert(changes.begin(), changes.end());
  std::size_t lies = 0;
  for (const QuantizedSeed& seed : quantized_seeds::all()) {
    const WeightBits truth = weights_of(seed.config, seed.tensors);
    const auto check = [&](const std::string& what, const std::vector<TensorPtr>& tensors) {
      const std::string lie = seed.name + " " + what;
      ++lies;
      const Seen now = seen(truth, [&] { return weights_of(seed.config, tensors); });
      if (now == Seen::accepted) others.insert(lie);
    };
    for (std::size_t i = 0; i < seed.tensors.size(); ++i) {
      const LazyTensor& tensor = *seed.tensors[i];
      const std::string& name = tensor.name();
      std::vector<TensorPtr> changed = seed.tensors;
      changed.erase(changed.begin() + std::ptrdiff_t(i));
      check(name + " is missing", changed);
      changed = seed.tensors;
      changed.push_back(changed[i]);
      check(name + " is there twice", changed);
      for (const DType dtype : {DType::f64, DType::f32, DType::f16, DType::bf16, DType::f8_e4m3, DType::f8_e5m2,
                                DType::i64, DType::i32, DType::i16, DType::i8, DType::u8}) {
        if (dtype == tensor.dtype()) continue;
        changed[i] = another(tensor, tensor.info().shape, dtype);
        changed.resize(seed.tensors.size());
        check(name + " is " + std::string(info(dtype).name), changed);
      }
      for (std::size_t axis = 0; axis <= tensor.info().shape.size(); ++axis)
        for (const int by : {1, -1}) {
          std::vector<std::uint64_t> shape = tensor.info().shape;
          if (axis < shape.size()) shape[axis] += std::uint64_t(by);
          else if (by > 0) shape.push_back(1);
          else if (shape.size() > 1 && shape.back() == 1) shape.pop_back();
          else continue;
          changed[i] = another(tensor, shape, tensor.dtype());
          check(name + " " + shape_text(shape), changed);
        }
      std::vector<std::uint64_t> none = tensor.info().shape;
      none.front() = 0;
      changed[i] = another(tensor, none, tensor.dtype());
      check(name + " " + shape_text(none), changed);
    }
  }
  EXPECT_EQ(others, allowed);
  EXPECT_GT(lies, 600u);
}

// A header that claims more than any file has: before anything is made of that size.
TEST(QuantizedTensorLies, HugeShapesAreRefusedByTheFile) {
  TestFolder folder;
  for (const QuantizedSeed& seed : quantized_seeds::all()) {
    SCOPED_TRACE(seed.name);
    const std::string whole = safetensors_file(seed.tensors, {});
    const WeightBits truth = weights_of(seed.config, seed.tensors);
    std::size_t shapes = 0;
    for (std::size_t at = 0; shapes < seed.tensors.size(); ++shapes) {
      at = whole.find("\"shape\":[", at + 1);
      ASSERT_NE(at, std::string::npos);
      for (const char* size : {"4294967296", "4611686018427387904", "18446744073709551615", "-1", "1e300"}) {
        const std::size_t begin = at + 9, end = whole.find_first_of(",]", begin);
        std::string header = whole.substr(8);
        header.replace(begin - 8, end - begin, size);
        std::uint64_t length = 0;
        std::memcpy(&length, whole.data(), 8);
        length += std::string_view(size).size() - (end - begin);
        std::string lying(8, '\0');
        std::memcpy(lying.data(), &length, 8);
        write_bytes(folder / "model.safetensors", lying + header);
        EXPECT_EQ(seen(truth,
                       [&] { return weights_of(seed.config, read_safetensors(folder / "model.safetensors").tensors); }),
                  Seen::refused)
            << size;
      }
    }
  }
}

}  // namespace
}  // namespace ropewalk::formats
