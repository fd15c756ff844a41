#include "formats/quantized/packed_tensors.h"

#include <algorithm>
#include <memory>

#include "lib/convert.h"

namespace ropewalk::formats {
namespace {

constexpr const char* kFetchAgain = "the checkpoint is incomplete or damaged: fetch it again";

std::string named(std::initializer_list<DType> types) {
  std::string out;
  for (const DType type : types) out += (out.empty() ? "" : " or ") + std::string(info(type).name);
  return out;
}

}  // namespace

void fail_packed(const LazyTensor& tensor, const std::string& problem, const std::string& fix) {
  throw Error(ErrorKind::bad_input, {.path = std::string(tensor.file())}, "'" + tensor.name() + "' " + problem,
              fix.empty() ? kFetchAgain : fix);
}

PackedBytes::PackedBytes(TensorPtr tensor) : tensor_(std::move(tensor)), bytes_(stored_bytes(*tensor_)) {
  if (bytes_ == nullptr)
    throw Error(ErrorKind::unsupported, {.path = std::string(tensor_->file())},
                "'" + tensor_->name() + "' is packed and not stored in one piece",
                "save the checkpoint again as safetensors");
}

void PackedBytes::read_f32(std::uint64_t first, std::span<float> values) const {
  const DType dtype = info().dtype;
  const auto width = static_cast<std::uint64_t>(ropewalk::info(dtype).block_bytes);
  if (dtype == DType::f32) return read(first * width, std::as_writable_bytes(values));
  const auto bytes = std::make_unique_for_overwrite<std::byte[]>(values.size() * width);
  const std::span<std::byte> raw(bytes.get(), values.size() * width);
  read(first * width, raw);
  decode_f32(dtype, raw, values);
}

void PackedBytes::read(const Slices& slices, std::span<std::byte> bytes) const {
  const std::uint64_t width = slices.to - slices.from;
  if (width == slices.row_bytes) return read(slices.first * width, bytes);
  for (std::uint64_t row = 0; row < slices.rows; ++row)
    read((slices.first + row) * slices.row_bytes + slices.from, bytes.subspan(row * width, width));
}

std::uint64_t tile_rows(const TensorInfo& weight) noexcept {
  constexpr std::uint64_t kTileBytes = std::uint64_t{16} << 20, kFewest = 64, kMost = 1024;
  std::uint64_t rows = kMost;
  while (rows > kFewest && rows * weight.columns() * sizeof(float) > kTileBytes) rows /= 2;
  return rows;
}

void require_matrix(const LazyTensor& tensor) {
  if (tensor.info().shape.size() != 2)
    fail_packed(tensor, "has shape " + shape_text(tensor.info().shape) + ", expected two axes");
}

PackedTensors::PackedTensors(std::vector<TensorPtr> tensors) : tensors_(std::move(tensors)) {
  for (std::size_t i = 0; i < tensors_.size(); ++i)
    if (!index_.emplace(tensors_[i]->name(), i).second) fail_packed(*tensors_[i], "is there twice, expected once");
}

TensorPtr PackedTensors::find(const std::string& name) const {
  const auto found = index_.find(name);
  return found == index_.end() ? nullptr : tensors_[found->second];
}

std::vector<std::string> PackedTensors::ending_in(std::string_view suffix) const {
  std::vector<std::string> out;
  for (const TensorPtr& tensor : tensors_)
    if (tensor && tensor->name().ends_with(suffix))
      out.push_back(tensor->name().substr(0, tensor->name().size() - suffix.size()));
  return out;
}

TensorPtr PackedTensors::take(const std::string& name, std::initializer_list<DType> types, const LazyTensor& for_what) {
  TensorPtr tensor = find(name);
  if (!tensor) fail_packed(for_what, "has no '" + name + "' beside it, expected with this quantization");
  if (std::find(types.begin(), types.end(), tensor->dtype()) == types.end())
    fail_packed(*tensor, "holds " + std::string(info(tensor->dtype()).name) + ", expected " + named(types));
  drop(name);
  return tensor;
}

TensorPtr PackedTensors::take(const std::string& name, std::initializer_list<DType> types, const LazyTensor& for_what,
                              const std::vector<std::uint64_t>& shape) {
  TensorPtr tensor = take(name, types, for_what);
  if (tensor->info().shape != shape)
    fail_packed(*tensor, "has shape " + shape_text(tensor->info().shape) + ", expected " + shape_text(shape));
  return tensor;
}

TensorPtr PackedTensors::take_if(const std::string& name, std::initializer_list<DType> types,
                                 const LazyTensor& for_what, const std::vector<std::uint64_t>& shape) {
  return find(name) ? take(name, types, for_what, shape) : nullptr;
}

void PackedTensors::drop(const std::string& name) {
  const auto found = index_.find(name);
  if (found == index_.end() || !tensors_[found->second]) return;
  taken_bytes_ += tensors_[found->second]->info().bytes();
  tensors_[found->second] = nullptr;
}

void PackedTensors::replace(const std::string& name, TensorPtr tensor) {
  drop(name);
  const std::size_t place = index_.at(name);
  tensors_[place] = std::move(tensor);
  made_.push_back(place);
}

std::vector<TensorPtr*> PackedTensors::made() {
  std::vector<TensorPtr*> all;
  for (const std::size_t place : made_) all.push_back(&tensors_[place]);
  return all;
}

std::vector<TensorPtr> PackedTensors::finish() {
  std::erase(tensors_, nullptr);
  return std::move(tensors_);
}

}  // namespace ropewalk::formats
