#pragma once
// A GGUF plan as the goldens of make_gguf.py write it down.

#include <gtest/gtest.h>

#include <map>

#include "formats/gguf_model.h"
#include "formats/source.h"
#include "gguf_bytes.h"
#include "lib/convert.h"
#include "lib/sha256.h"

namespace ropewalk::formats {

inline GgufExportOptions compat(DType type) {
  GgufExportOptions options;
  options.type = type;
  options.compat = "llama.cpp@0.5";
  return options;
}

inline std::string hex(std::string_view bytes) { return sha256(bytes); }

inline std::string tensor_data(const GgufTensorPlan& plan) {
  const LazyTensor& tensor = *plan.tensor;
  tensor.prepare();
  const RowRange all{0, tensor.info().rows()};
  const TensorInfo encoded{.name = plan.name, .shape = tensor.info().shape, .dtype = plan.dtype};
  std::string out(encoded.bytes(), '\0');
  const auto bytes = std::as_writable_bytes(std::span(out.data(), out.size()));
  if (plan.dtype == tensor.dtype() && tensor.has_raw()) {
    tensor.read_raw(all, bytes);
  } else {
    std::vector<float> values(tensor.info().elements());
    tensor.read_f32(all, values);
    encode_f32(plan.dtype, values, bytes);
  }
  return out;
}

inline std::string whole_file(const GgufPlan& plan) {
  const std::vector<GgufShard> shards = layout_gguf(plan);
  std::string out = shards.at(0).header;
  for (const GgufShard::Place& place : shards[0].places)
    out += tensor_data(plan.tensors[place.tensor]) + std::string(place.padding_bytes, '\0');
  return out;
}

/// A key as make_gguf.py dumps it: [name, type, value | {n, payload_sha256}].
inline Json dumped(const GgufKey& key) {
  static const std::map<std::string, std::string> kNames = {{"string", "str"}, {"array", "arr"}};
  const auto name_of = [](GgufType type) {
    const auto found = kNames.find(gguf_type_name(type));
    return found == kNames.end() ? std::string(gguf_type_name(type)) : found->second;
  };
  Json value;
  std::string type = name_of(key.value.type);
  if (const auto* array = std::get_if<GgufArray>(&key.value.value)) {
    type = "arr[" + name_of(array->element_type) + "]";
    if (array->size() <= 16) {
      value = Json::array();
      for (const std::string& text : array->strings) value.push_back(text);
      for (float number : f32_elements(*array)) value.push_back(number);
      for (std::int32_t number : i32_elements(*array)) value.push_back(number);
    } else {
      std::string payload(reinterpret_cast<const char*>(array->packed.data()), array->packed.size());
      GgufBytes strings;
      for (const std::string& text : array->strings) strings.text(text);
      value = {{"n", array->size()}, {"payload_sha256", hex(payload + strings.bytes())}};
    }
  } else {
    std::visit(
        [&](const auto& v) {
          if constexpr (!std::is_same_v<std::decay_t<decltype(v)>, GgufArray>) value = v;
        },
        key.value.value);
  }
  return Json::array({key.name, type, value});
}

inline void expect_keys(const GgufPlan& plan, const Json& keys, const Json& changed) {
  std::map<std::string, Json> overrides;
  for (const Json& key : changed) overrides[key[0]] = key;
  ASSERT_EQ(plan.keys.size(), keys.size());
  for (std::size_t i = 0; i < keys.size(); ++i) {
    const std::string name = keys[i][0];
    EXPECT_EQ(dumped(plan.keys[i]), overrides.contains(name) ? overrides[name] : keys[i]);
  }
}

inline void expect_tensors(const GgufPlan& plan, const Json& tensors) {
  ASSERT_EQ(plan.tensors.size(), tensors.size());
  const std::vector<GgufShard> shards = layout_gguf(plan);
  const std::uint64_t data = shards[0].header.size();
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const GgufTensorPlan& tensor = plan.tensors[i];
    Json ne = Json::array();
    for (std::size_t axis = tensor.tensor->info().shape.size(); axis-- > 0;)
      ne.push_back(tensor.tensor->info().shape[axis]);
    std::string type(info(tensor.dtype).name);
    for (char& c : type) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
    EXPECT_EQ(Json::array({tensor.name, ne, type, shards[0].places[i].offset_bytes - data, hex(tensor_data(tensor))}),
              tensors[i]);
  }
}

struct OutType {
  std::string name;
  DType type;
};
inline std::vector<OutType> out_types(const Source& source) {
  return {{"f32", DType::f32},
          {"f16", DType::f16},
          {"bf16", DType::bf16},
          {"q8_0", DType::q8_0},
          {"auto", gguf_auto_type(source)}};
}

}  // namespace ropewalk::formats
