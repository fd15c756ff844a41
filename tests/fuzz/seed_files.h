#pragma once

#include <cstring>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "formats/safetensors.h"
#include "lib/recipes.h"

// Small safetensors files of our own writer, and what stands in them.

inline std::string safetensors_file(const std::vector<ropewalk::TensorPtr>& tensors,
                                    const std::map<std::string, std::string>& metadata) {
  const ropewalk::formats::SafetensorsLayout layout = ropewalk::formats::plan_safetensors(tensors, metadata);
  std::string out = layout.header;
  out.resize(layout.file_bytes);
  for (const auto& [tensor, offset] : layout.places)
    tensor->read_raw({0, tensor->info().rows()},
                     std::as_writable_bytes(std::span(out)).subspan(offset, tensor->info().bytes()));
  return out;
}

/// Every byte is `byte`.
inline ropewalk::TensorPtr filled(std::string name, std::vector<std::uint64_t> shape, ropewalk::DType dtype,
                                  int byte = 0x3c) {
  ropewalk::TensorInfo tensor{.name = std::move(name), .shape = std::move(shape), .dtype = dtype};
  std::vector<std::byte> bytes(tensor.bytes(), std::byte(byte));
  return ropewalk::memory_tensor(std::move(tensor), std::move(bytes));
}
