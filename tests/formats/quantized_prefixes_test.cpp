// Quantized checkpoints that are cut short: every prefix of the file and of config.json, of every format that is read.

#include <gtest/gtest.h>

#include "tests/formats/quantized_lies.h"

namespace ropewalk::formats {
namespace {

TEST(QuantizedPrefixes, OfTheFileAreRefused) {
  TestFolder folder;
  for (const QuantizedSeed& seed : quantized_seeds::all()) {
    SCOPED_TRACE(seed.name);
    const std::string whole = safetensors_file(seed.tensors, {});
    const WeightBits truth = weights_of(seed.config, seed.tensors);
    const auto read = [&](std::size_t bytes) {
      write_bytes(folder / "model.safetensors", whole.substr(0, bytes));
      return seen(truth,
                  [&] { return weights_of(seed.config, read_safetensors(folder / "model.safetensors").tensors); });
    };
    EXPECT_EQ(read(whole.size()), Seen::harmless);
    for (std::size_t bytes = 0; bytes < whole.size(); ++bytes) ASSERT_EQ(read(bytes), Seen::refused) << bytes;
  }
}

TEST(QuantizedPrefixes, OfTheConfigurationAreRefused) {
  for (const QuantizedSeed& seed : quantized_seeds::all()) {
    SCOPED_TRACE(seed.name);
    const WeightBits truth = weights_of(seed.config, seed.tensors);
    for (std::size_t bytes = 0; bytes < seed.config.size(); ++bytes)
      ASSERT_EQ(seen(truth, [&] { return weights_of(seed.config.substr(0, bytes), seed.tensors); }), Seen::refused)
          << seed.config.substr(0, bytes);
  }
}

// The JSON that bitsandbytes keeps in a tensor.
TEST(QuantizedPrefixes, OfAStateAreRefused) {
  std::size_t states = 0;
  for (const QuantizedSeed& seed : quantized_seeds::all())
    for (std::size_t i = 0; i < seed.tensors.size(); ++i) {
      const std::string name = seed.tensors[i]->name();
      if (name.find("quant_state") == std::string::npos) continue;
      const std::string whole = raw_bytes(*seed.tensors[i]);
      for (std::size_t bytes = 0; bytes < whole.size(); ++bytes) {
        std::vector<TensorPtr> tensors = seed.tensors;
        tensors[i] = quantized_seeds::text(name, whole.substr(0, bytes));
        ASSERT_EQ(seen({}, [&] { return weights_of(seed.config, tensors); }), Seen::refused) << bytes;
      }
      ++states;
    }
  EXPECT_EQ(states, 1u);
}

}  // namespace
}  // namespace ropewalk::formats
