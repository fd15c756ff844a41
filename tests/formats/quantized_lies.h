#pragma once

// What the tests of quantized checkpoints that lie share: each starts from the valid ones of tests/fuzz/quantized_seeds.h,
// changes one thing, and asks whether it was seen.

#include "tests/formats/quantized_golden.h"
#include "tests/fuzz/quantized_seeds.h"

namespace ropewalk::formats {

using WeightBits = std::map<std::string, std::string>;

/// The weights of a checkpoint, read whole, with type and shape. Throws Error for one that is not read, and for tensors left
/// that are no weights, as the inventory of a model's tensors does.
inline WeightBits weights_of(const std::string& config, std::vector<TensorPtr> tensors) {
  const std::string path = "config.json";
  std::vector<std::string> warnings;
  dequantize(tensors, {path, config, parse_json(path, config)}, warnings);
  WeightBits out;
  for (const TensorPtr& tensor : tensors) {
    if (!is_float(tensor->dtype()) || !(tensor->name().ends_with(".weight") || tensor->name().ends_with(".x")))
      throw Error(ErrorKind::bad_input, {.path = path}, "'" + tensor->name() + "' is no weight",
                  "left for the inventory");
    std::vector<float> values(tensor->info().elements());
    tensor->read_f32({0, tensor->info().rows()}, values);
    out[tensor->name()] =
        std::string(info(tensor->dtype()).name) + shape_text(tensor->info().shape) + f32_bytes(values);
  }
  return out;
}

enum class Seen { refused, harmless, accepted };
/// `read` against what the checkpoint is without the lie. A refusal is one line about the input that says what to do.
template <class Read>
Seen seen(const WeightBits& truth, Read read) {
  try {
    return read() == truth ? Seen::harmless : Seen::accepted;
  } catch (const Error& error) {
    EXPECT_TRUE(error.kind() == ErrorKind::bad_input || error.kind() == ErrorKind::unsupported) << error.what();
    EXPECT_FALSE(error.problem().empty() || error.fix().empty()) << error.what();
    EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos) << error.what();
    return Seen::refused;
  }
}

}  // namespace ropewalk::formats
