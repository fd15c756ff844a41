#include "formats/torch/torch_file.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <memory>
#include <set>

#include "formats/limits.h"
#include "formats/torch/unpickler.h"
#include "formats/torch/zip_archive.h"
#include "lib/convert.h"
#include "lib/error.h"
#include "lib/file.h"
#include "lib/recipes.h"

namespace ropewalk::formats {
namespace {

using torch::Node;
using torch::Pickle;
using torch::ZipMember;
using Kind = Node::Kind;

constexpr std::uint64_t kMaxPickleBytes = std::uint64_t{64} << 20;
constexpr std::string_view kMagic = "\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19";
constexpr const char* kDamaged = "the file is cut short or damaged: fetch it again";

/// A matrix whose columns are contiguous: W of a saved W.t(). Rows are read a piece of every column at a time.
class TransposedTensor final : public LazyTensor {
 public:
  TransposedTensor(TensorInfo info, std::shared_ptr<const File> file, std::uint64_t offset, std::uint64_t stride)
      : LazyTensor(std::move(info)), file_(std::move(file)), offset_(offset), stride_(stride) {}

  std::uint64_t row_unit() const noexcept override { return 64; }
  std::string_view file() const noexcept override { return file_->path(); }
  void read_f32(RowRange range, std::span<float> values) const override { read(range, values, decode_f32); }
  bool is_wide() const noexcept override { return dtype() == DType::f64; }
  void read_f64(RowRange range, std::span<double> values) const override { read(range, values, decode_f64); }

 private:
  template <class Float>
  void read(RowRange range, std::span<Float> values,
            void (*decode)(DType, std::span<const std::byte>, std::span<Float>)) const {
    const auto width = static_cast<std::uint64_t>(ropewalk::info(dtype()).block_bytes);
    const std::uint64_t columns = info().columns(), rows = range.size();
    std::vector<std::byte> bytes(rows * width);
    std::vector<Float> piece(rows);
    for (std::uint64_t column = 0; column < columns; ++column) {
      file_->read(offset_ + (column * stride_ + range.begin) * width, bytes);
      decode(dtype(), bytes, piece);
      for (std::uint64_t row = 0; row < rows; ++row) values[row * columns + column] = piece[row];
    }
  }

  std::shared_ptr<const File> file_;
  std::uint64_t offset_, stride_;
};

class Reader {
 public:
  explicit Reader(const std::filesystem::path& path) : file_(File::open(path)) {}

  TorchFile read() {
    std::string head(std::min<std::uint64_t>(file_->size(), 4), '\0');
    file_->read(0, std::as_writable_bytes(std::span(head)));
    if (head == "PK\3\4") read_zip();
    else if (head.starts_with("\x80") || head.starts_with("c")) read_legacy();  // c: of protocol 0, for what it names
    else
      fail(0, "is neither a zip file nor a pickle, expected what torch.save writes",
           "is this the file of a checkpoint?");
    TorchFile out;
    collect(out.tensors);
    return out;
  }

 private:
  [[noreturn]] void fail(std::uint64_t offset, const std::string& problem, const char* fix = kDamaged,
                         ErrorKind kind = ErrorKind::bad_input) const {
    throw Error(kind, {.path = file_->path(), .offset = offset}, problem, fix);
  }
  void read_text(std::uint64_t offset, std::uint64_t bytes) {
    if (bytes > kMaxPickleBytes)
      fail(offset,
           "the pickle has " + std::to_string(bytes) + " bytes, expected at most " + std::to_string(kMaxPickleBytes),
           "it holds more than tensors: load it with torch and save them as safetensors");
    text_.resize(bytes);
    file_->read(offset, std::as_writable_bytes(std::span(text_)));
  }

  void read_zip() {
    const std::map<std::string, ZipMember> members = torch::read_zip(*file_);
    std::string root;
    const ZipMember* pickle = nullptr;
    for (const auto& [name, member] : members)
      if (name.ends_with("/data.pkl") && name.find('/') == name.size() - 9) {
        if (pickle) fail(member.offset, "the zip file holds two data.pkl, expected one");
        pickle = &member;
        root = name.substr(0, name.size() - 8);
      }
    if (!pickle)
      fail(0, "the zip file holds no NAME/data.pkl, expected what torch.save writes",
           "is this the file of a checkpoint?");
    if (const auto order = members.find(root + "byteorder"); order != members.end()) {
      std::string text(std::min<std::uint64_t>(order->second.bytes, 16), '\0');
      file_->read(order->second.offset, std::as_writable_bytes(std::span(text)));
      if (text != "little")
        fail(order->second.offset, "the byte order is not little-endian", "save it again on another machine",
             ErrorKind::unsupported);
    }
    read_text(pickle->offset, pickle->bytes);
    pickle_at_ = pickle->offset;
    pickle_ = torch::unpickle(file_->path(), pickle_at_, text_);
    for (const auto& [name, member] : members)
      if (name.starts_with(root + "data/")) storages_.emplace(name.substr(root.size() + 5), member);
  }

  void read_legacy() {
    read_text(0, std::min(file_->size(), kMaxPickleBytes));
    std::uint64_t at = 0;
    const auto next = [&] {
      Pickle out = torch::unpickle(file_->path(), at, std::string_view(text_).substr(at));
      pickle_at_ = at;
      at += out.end;
      return out;
    };
    const Pickle magic = next();
    if (magic.value->kind != Kind::text || magic.value->text != kMagic)
      fail(0, "the pickle does not begin with torch's number, expected what torch.save writes",
           "is this the file of a checkpoint?");
    const Pickle version = next();
    if (version.value->kind != Kind::integer || version.value->integer != 1001)
      fail(pickle_at_, "the version of the layout is not 1001", "load it with torch and save it as safetensors",
           ErrorKind::unsupported);
    const Pickle system = next();
    if (system.value->kind != Kind::dictionary) fail(pickle_at_, "the third pickle is no dictionary");
    for (std::size_t i = 0; i + 1 < system.value->items.size(); i += 2)
      if (system.value->items[i]->kind == Kind::text && system.value->items[i]->text == "little_endian" &&
          system.value->items[i + 1]->integer == 0)
        fail(pickle_at_, "the byte order is not little-endian", "save it again on another machine",
             ErrorKind::unsupported);
    pickle_ = next();
    const std::uint64_t dictionary_at = pickle_at_;
    const Pickle keys = next();
    if (keys.value->kind != Kind::list) fail(pickle_at_, "the fifth pickle is no list of storages");
    std::map<std::string_view, DType> types;
    for (const Node& node : pickle_.nodes)
      if (node.kind == Kind::storage) types[node.text] = node.dtype;
    for (const Node* key : keys.value->items) {
      if (key->kind != Kind::text || !types.contains(key->text)) fail(pickle_at_, "lists a storage no tensor is of");
      if (file_->size() - at < 8) fail(at, "a storage's size needs 8 bytes, the file ends first");
      std::uint64_t elements = 0;
      file_->read(at, std::as_writable_bytes(std::span(&elements, 1)));
      at += 8;
      const auto bytes = byte_size(types[key->text], elements);
      if (!bytes || *bytes > file_->size() - at)
        fail(at, "a storage claims " + std::to_string(elements) + " elements, the file ends first");
      if (!storages_.emplace(std::string(key->text), ZipMember{at, *bytes}).second)
        fail(at, "a storage is there twice, expected once");
      at += *bytes;
    }
    if (at != file_->size())
      fail(at, std::to_string(file_->size() - at) + " bytes after the last storage, expected none");
    pickle_at_ = dictionary_at;
  }

  void collect(std::vector<TensorPtr>& tensors) const {
    if (!pickle_.value || pickle_.value->kind != Kind::dictionary)
      fail(pickle_at_, "the pickle holds no dictionary, expected names and tensors",
           "save the model's state_dict, not the model");
    const auto& items = pickle_.value->items;
    if (items.size() / 2 > kMaxTensorsPerFile) fail(pickle_at_, "the pickle claims too many tensors");
    std::set<std::string_view> seen;
    for (std::size_t i = 0; i + 1 < items.size(); i += 2) {
      if (items[i]->kind != Kind::text) fail(pickle_at_, "a key of the dictionary is no text, expected names");
      const std::string name(items[i]->text);
      if (items[i + 1]->kind != Kind::tensor)
        fail(pickle_at_, "'" + name + "' is no tensor, expected a dictionary of tensors alone",
             "save the model's state_dict, without what training keeps beside it");
      if (!seen.insert(items[i]->text).second) fail(pickle_at_, "'" + name + "' is there twice, expected once");
      tensors.push_back(make(name, *items[i + 1]));
    }
  }

  TensorPtr make(const std::string& name, const Node& tensor) const {
    const Node& storage = *tensor.items[0];
    const auto found = storages_.find(std::string(storage.text));
    if (found == storages_.end()) fail(pickle_at_, "'" + name + "' is of a storage that is not in the file");
    const std::size_t axes = tensor.sizes.size() / 2;
    const std::span<const std::uint64_t> sizes(tensor.sizes);
    TensorInfo info{name, {sizes.begin() + 1, sizes.begin() + 1 + static_cast<std::ptrdiff_t>(axes)}, tensor.dtype};
    const std::span<const std::uint64_t> strides = sizes.subspan(1 + axes);
    const auto width = static_cast<std::uint64_t>(ropewalk::info(tensor.dtype).block_bytes);
    const auto elements = element_count(info.shape);
    const auto bytes = elements ? byte_size(tensor.dtype, *elements) : std::nullopt;
    if (!bytes || (storage.dtype == tensor.dtype &&
                   byte_size(storage.dtype, static_cast<std::uint64_t>(storage.integer)) != found->second.bytes))
      fail(pickle_at_, "'" + name + "' and its storage have sizes that do not fit");
    // as many elements as the storage has may be skipped, and as the tensor has be read: both products fit
    const std::uint64_t held = found->second.bytes / width, first = sizes[0];
    if (first > held || *elements > held - first)
      fail(pickle_at_, "'" + name + "' " + shape_text(info.shape) + " needs " + std::to_string(*elements) +
                           " elements from number " + std::to_string(first) + ", its storage has " +
                           std::to_string(held));
    const std::uint64_t place = found->second.offset + first * width;
    if (is_contiguous(info.shape, strides)) return file_tensor(std::move(info), file_, place);
    // elements * strides fit, as the whole extent is that of a contiguous matrix of the other order
    if (axes == 2 && strides[0] == 1 && strides[1] == info.shape[0])
      return std::make_shared<TransposedTensor>(std::move(info), file_, place, strides[1]);
    fail(pickle_at_,
         "'" + name + "' " + shape_text(info.shape) + " has strides " + shape_text(strides) +
             ", expected a contiguous tensor or a transposed matrix",
         "save it again: tensor.contiguous()", ErrorKind::unsupported);
  }

  static bool is_contiguous(std::span<const std::uint64_t> shape, std::span<const std::uint64_t> strides) {
    std::uint64_t expected = 1;
    for (std::size_t axis = shape.size(); axis-- > 0;) {
      if (shape[axis] == 0) return true;
      if (shape[axis] != 1 && strides[axis] != expected) return false;
      expected *= shape[axis];
    }
    return true;
  }

  std::shared_ptr<const File> file_;
  std::string text_;
  std::uint64_t pickle_at_ = 0;
  Pickle pickle_;
  std::map<std::string, ZipMember> storages_;
};

}  // namespace

TorchFile read_torch_file(const std::filesystem::path& path) { return Reader(path).read(); }

}  // namespace ropewalk::formats
