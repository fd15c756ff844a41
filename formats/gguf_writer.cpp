#include <algorithm>
#include <cstring>
#include <unordered_set>

#include "formats/gguf.h"
#include "formats/gguf_split.h"
#include "lib/error.h"

namespace ropewalk::formats {
namespace {

template <typename T>
void put(std::string& out, T value) {
  char bytes[sizeof(T)];
  std::memcpy(bytes, &value, sizeof(T));
  out.append(bytes, sizeof(T));
}

void put_text(std::string& out, std::string_view text) {
  put<std::uint64_t>(out, text.size());
  out += text;
}

void put_array(std::string& out, const GgufArray& array) {
  put<std::uint32_t>(out, static_cast<std::uint32_t>(array.element_type));
  put<std::uint64_t>(out, array.size());
  for (const std::string& text : array.strings) put_text(out, text);
  out.append(reinterpret_cast<const char*>(array.packed.data()), array.packed.size());
}

template <typename T>
void put_unsigned(std::string& out, const GgufValue& value) {
  put<T>(out, static_cast<T>(std::get<std::uint64_t>(value.value)));
}
template <typename T>
void put_signed(std::string& out, const GgufValue& value) {
  put<T>(out, static_cast<T>(std::get<std::int64_t>(value.value)));
}

void put_key(std::string& out, const GgufKey& key) {
  put_text(out, key.name);
  const GgufValue& value = key.value;
  put<std::uint32_t>(out, static_cast<std::uint32_t>(value.type));
  switch (value.type) {
    case GgufType::u8: return put_unsigned<std::uint8_t>(out, value);
    case GgufType::u16: return put_unsigned<std::uint16_t>(out, value);
    case GgufType::u32: return put_unsigned<std::uint32_t>(out, value);
    case GgufType::u64: return put_unsigned<std::uint64_t>(out, value);
    case GgufType::i8: return put_signed<std::int8_t>(out, value);
    case GgufType::i16: return put_signed<std::int16_t>(out, value);
    case GgufType::i32: return put_signed<std::int32_t>(out, value);
    case GgufType::i64: return put_signed<std::int64_t>(out, value);
    case GgufType::f32: return put<float>(out, static_cast<float>(std::get<double>(value.value)));
    case GgufType::f64: return put<double>(out, std::get<double>(value.value));
    case GgufType::boolean: return put<std::uint8_t>(out, std::get<bool>(value.value) ? 1 : 0);
    case GgufType::string: return put_text(out, std::get<std::string>(value.value));
    case GgufType::array: return put_array(out, std::get<GgufArray>(value.value));
  }
}

std::uint64_t padded(std::uint64_t bytes, std::uint64_t alignment) {
  return (bytes + alignment - 1) / alignment * alignment;
}

std::uint64_t tensor_bytes(const GgufTensorPlan& plan) {
  const TensorInfo& source = plan.tensor->info();
  const TensorInfo encoded{.name = plan.name, .shape = source.shape, .dtype = plan.dtype};
  const auto block = static_cast<std::uint64_t>(info(plan.dtype).block_elements);
  const auto refuse = [&](const std::string& problem) {
    throw Error(ErrorKind::bad_input, {}, "tensor '" + plan.name + "' " + problem,
                "llama.cpp would refuse the file: leave the tensor out or choose another type");
  };
  if (plan.name.empty() || plan.name.size() > 63)
    refuse("has a name of " + std::to_string(plan.name.size()) + " bytes, 1 to 63 are allowed");
  if (source.shape.size() > 4)
    refuse("has " + std::to_string(source.shape.size()) + " dimensions, at most 4 are allowed");
  if (info(plan.dtype).ggml_type < 0) refuse("cannot be stored as " + std::string(info(plan.dtype).name));
  if (encoded.columns() % block != 0)
    refuse("has rows of " + std::to_string(encoded.columns()) + " elements, not whole " +
           std::string(info(plan.dtype).name) + " blocks of " + std::to_string(block));
  return encoded.bytes();
}

/// Indices of the plan's tensors, file by file.
std::vector<std::vector<std::size_t>> distribute(const std::vector<std::uint64_t>& bytes, const GgufSplit& split) {
  std::vector<std::vector<std::size_t>> shards(split.no_tensor_first_split ? 2 : 1);
  std::uint64_t in_last = 0;
  for (std::size_t tensor = 0; tensor < bytes.size(); ++tensor) {
    const bool too_many = split.max_tensors.value_or(0) != 0 && shards.back().size() >= *split.max_tensors;
    const bool too_large = split.max_bytes.value_or(0) != 0 && in_last + bytes[tensor] > *split.max_bytes;
    const bool told = std::binary_search(split.first_tensors.begin(), split.first_tensors.end(), tensor);
    if (!shards.back().empty() && (too_many || too_large || told)) {
      shards.emplace_back();
      in_last = 0;
    }
    shards.back().push_back(tensor);
    in_last += bytes[tensor];
  }
  return shards;
}

bool is_split_key(const std::string& name) {
  return name == "split.no" || name == "split.count" || name == "split.tensors.count";
}

std::vector<GgufKey> shard_keys(const GgufPlan& plan, std::size_t number, std::size_t count) {
  std::vector<GgufKey> keys;
  for (const GgufKey& key : plan.keys)
    if (!is_split_key(key.name) && (number == 0 || (key.name == "general.alignment" && plan.alignment != 32)))
      keys.push_back(key);
  if (count == 1) return keys;
  keys.push_back({"split.no", gguf_u16(static_cast<std::uint16_t>(number))});
  keys.push_back({"split.count", gguf_u16(static_cast<std::uint16_t>(count))});
  keys.push_back({"split.tensors.count", gguf_i32(static_cast<std::int32_t>(plan.tensors.size()))});
  return keys;
}

GgufShard lay_out(const GgufPlan& plan, const std::vector<std::uint64_t>& bytes,
                  const std::vector<std::size_t>& tensors, const std::vector<GgufKey>& keys) {
  GgufShard shard;
  std::string& out = shard.header;
  out = "GGUF";
  put<std::uint32_t>(out, 3);
  put<std::uint64_t>(out, tensors.size());
  put<std::uint64_t>(out, keys.size());
  for (const GgufKey& key : keys) put_key(out, key);
  std::uint64_t running = 0;
  for (std::size_t tensor : tensors) {
    const GgufTensorPlan& entry = plan.tensors[tensor];
    const std::vector<std::uint64_t>& shape = entry.tensor->info().shape;
    put_text(out, entry.name);
    put<std::uint32_t>(out, static_cast<std::uint32_t>(shape.size()));
    for (std::size_t axis = shape.size(); axis-- > 0;) put<std::uint64_t>(out, shape[axis]);
    put<std::uint32_t>(out, static_cast<std::uint32_t>(info(entry.dtype).ggml_type));
    put<std::uint64_t>(out, running);
    const std::uint64_t room = padded(bytes[tensor], plan.alignment);
    shard.places.push_back({tensor, running, room - bytes[tensor]});
    running += room;
  }
  out.resize(static_cast<std::size_t>(padded(out.size(), plan.alignment)), '\0');
  for (GgufShard::Place& place : shard.places) place.offset_bytes += out.size();
  shard.file_bytes = out.size() + running;
  return shard;
}

}  // namespace

std::vector<GgufShard> layout_gguf(const GgufPlan& plan, const GgufSplit& split) {
  std::vector<std::uint64_t> bytes;
  std::unordered_set<std::string_view> names;
  for (const GgufTensorPlan& tensor : plan.tensors) {
    bytes.push_back(tensor_bytes(tensor));
    if (!names.insert(tensor.name).second)
      throw Error(ErrorKind::bad_input, {}, "two tensors would be named '" + tensor.name + "'",
                  "leave one of them out: llama.cpp refuses names that stand twice");
  }
  const auto files = distribute(bytes, split);
  if (files.size() > 65535)
    throw Error(ErrorKind::usage, {},
                "the split gives " + std::to_string(files.size()) + " files, at most 65535 are possible",
                "choose a larger --split-max-size or --split-max-tensors");
  std::vector<GgufShard> shards;
  for (std::size_t number = 0; number < files.size(); ++number) {
    shards.push_back(lay_out(plan, bytes, files[number], shard_keys(plan, number, files.size())));
    if (files.size() > 1) shards.back().suffix = shard_suffix(number, files.size());
  }
  return shards;
}

}  // namespace ropewalk::formats
