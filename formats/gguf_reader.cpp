#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <span>
#include <unordered_set>

#include "formats/gguf.h"
#include "formats/gguf_split.h"
#include "lib/error.h"
#include "lib/recipes.h"

namespace ropewalk::formats {
namespace {

// What a header may claim. llama.cpp 0.5 allows 2^30 for strings and arrays; nothing published comes near these.
constexpr std::uint64_t kMaxKeys = 1 << 20;
constexpr std::uint64_t kMaxTensors = 1 << 20;
constexpr std::uint64_t kMaxKeyBytes = 65535;                    // gguf.md
constexpr std::uint64_t kMaxStringBytes = std::uint64_t{1} << 28;
constexpr std::uint64_t kMaxStrings = std::uint64_t{1} << 24;    // elements of one string array
constexpr std::uint64_t kMaxArrayBytes = std::uint64_t{1} << 30;  // of one array of numbers
constexpr std::uint64_t kMaxAlignment = std::uint64_t{1} << 20;
constexpr std::size_t kMaxNameBytes = 63;  // GGML_MAX_NAME counts the final NUL
constexpr std::uint32_t kMaxDims = 4;

constexpr const char* kFetchAgain = "the file is cut short or corrupt: fetch it again";
constexpr const char* kWriteAgain = "the file is malformed: write it again with a current converter";

std::string in_quotes(std::string_view text) {
  std::string out = "'";
  for (char c : text) out += static_cast<unsigned char>(c) < 0x20 || c == 0x7f ? '?' : c;
  return out + "'";
}

/// Names are shown to people and written as JSON: UTF-8 without control characters.
bool is_printable_utf8(std::string_view text) {
  const auto* bytes = reinterpret_cast<const utf8proc_uint8_t*>(text.data());
  for (std::size_t at = 0; at < text.size();) {
    utf8proc_int32_t code = -1;
    const utf8proc_ssize_t used = utf8proc_iterate(bytes + at, static_cast<utf8proc_ssize_t>(text.size() - at), &code);
    if (used <= 0 || code < 0x20 || code == 0x7f) return false;
    at += static_cast<std::size_t>(used);
  }
  return true;
}

/// Little-endian cursor over a file, through one window: the header's size is not known before it is read.
class Cursor {
 public:
  explicit Cursor(std::shared_ptr<const File> file) : file_(std::move(file)) {}

  std::uint64_t position() const noexcept { return position_; }
  std::uint64_t remaining() const noexcept { return file_->size() - position_; }
  /// What is being read, for messages: " of key 'x'".
  void set_subject(std::string subject) { subject_ = std::move(subject); }

  void need(std::uint64_t bytes, const char* field) const {
    if (bytes > remaining())
      fail(std::string(field) + subject_ + " needs " + std::to_string(bytes) + " bytes, " + std::to_string(remaining()) + " are left", kFetchAgain);
  }

  void read(std::span<std::byte> out, const char* field) {
    need(out.size(), field);
    while (!out.empty()) {
      if (position_ < window_begin_ || position_ >= window_begin_ + window_bytes_) refill();
      const std::size_t at = static_cast<std::size_t>(position_ - window_begin_);
      const std::size_t n = std::min(out.size(), window_bytes_ - at);
      std::memcpy(out.data(), window_.data() + at, n);
      out = out.subspan(n);
      position_ += n;
    }
  }

  template <typename T>
  T number(const char* field) {
    std::array<std::byte, sizeof(T)> bytes;
    read(bytes, field);
    T value;
    std::memcpy(&value, bytes.data(), sizeof(T));  // the hosts we build for are little-endian
    return value;
  }

  std::string text(const char* field, std::uint64_t max_bytes) {
    const std::uint64_t n = number<std::uint64_t>(field);
    if (n > remaining()) need(n, field);
    if (n > max_bytes) fail(std::string(field) + subject_ + " claims " + std::to_string(n) + " bytes, at most " + std::to_string(max_bytes) + " are accepted", kWriteAgain);
    std::string out(static_cast<std::size_t>(n), '\0');
    read(std::as_writable_bytes(std::span(out.data(), out.size())), field);
    return out;
  }

  /// A count whose items take at least item_bytes each.
  void check_count(std::uint64_t n, std::uint64_t item_bytes, std::uint64_t max, const char* what) const {
    if (n > remaining() / item_bytes)
      fail(std::string(what) + subject_ + " is " + std::to_string(n) + ", which needs at least " + std::to_string(item_bytes) + " bytes each, " +
               std::to_string(remaining()) + " bytes are left",
           kFetchAgain);
    if (n > max) fail(std::string(what) + subject_ + " is " + std::to_string(n) + ", at most " + std::to_string(max) + " are accepted", kWriteAgain);
  }

  [[noreturn]] void fail(const std::string& problem, const std::string& fix, ErrorKind kind = ErrorKind::bad_input) const {
    throw Error(kind, {.path = file_->path(), .offset = position_}, problem, fix);
  }

 private:
  void refill() {
    window_.resize(kWindow);
    window_begin_ = position_;
    window_bytes_ = static_cast<std::size_t>(std::min<std::uint64_t>(kWindow, file_->size() - position_));
    file_->read(window_begin_, std::span(window_.data(), window_bytes_));
  }

  static constexpr std::size_t kWindow = std::size_t{1} << 18;
  std::shared_ptr<const File> file_;
  std::uint64_t position_ = 0, window_begin_ = 0;
  std::size_t window_bytes_ = 0;
  std::vector<std::byte> window_;
  std::string subject_;
};

GgufType read_type(Cursor& in, const char* field, const std::string& key) {
  const auto raw = in.number<std::uint32_t>(field);
  if (raw > static_cast<std::uint32_t>(GgufType::f64)) in.fail("key " + in_quotes(key) + " has value type " + std::to_string(raw) + ", expected 0 to 12", kWriteAgain);
  return static_cast<GgufType>(raw);
}

bool read_bool(Cursor& in, const std::string& key) {
  const auto raw = in.number<std::uint8_t>("the value");
  if (raw > 1) in.fail("key " + in_quotes(key) + " is a bool of value " + std::to_string(raw) + ", expected 0 or 1", kWriteAgain);
  return raw == 1;
}

GgufArray read_array(Cursor& in, const std::string& key) {
  GgufArray array;
  array.element_type = read_type(in, "the element type", key);
  if (array.element_type == GgufType::array) in.fail("key " + in_quotes(key) + " is an array of arrays, which llama.cpp does not read", kWriteAgain);
  const auto n = in.number<std::uint64_t>("the length");
  if (array.element_type == GgufType::string) {
    in.check_count(n, 8, kMaxStrings, "the length");
    array.strings.reserve(static_cast<std::size_t>(n));
    for (std::uint64_t item = 0; item < n; ++item) array.strings.push_back(in.text("a string", kMaxStringBytes));
    return array;
  }
  const std::uint64_t each = gguf_type_bytes(array.element_type);
  in.check_count(n, each, kMaxArrayBytes / each, "the length");
  array.packed.resize(static_cast<std::size_t>(n * each));
  in.read(array.packed, "the elements");
  if (array.element_type == GgufType::boolean)
    for (std::byte b : array.packed)
      if (b > std::byte{1}) in.fail("key " + in_quotes(key) + " has a bool of value " + std::to_string(static_cast<int>(b)) + ", expected 0 or 1", kWriteAgain);
  return array;
}

GgufValue read_value(Cursor& in, const std::string& key) {
  const GgufType type = read_type(in, "the value type", key);
  switch (type) {
    case GgufType::u8: return {type, std::uint64_t{in.number<std::uint8_t>("the value")}};
    case GgufType::i8: return {type, std::int64_t{in.number<std::int8_t>("the value")}};
    case GgufType::u16: return {type, std::uint64_t{in.number<std::uint16_t>("the value")}};
    case GgufType::i16: return {type, std::int64_t{in.number<std::int16_t>("the value")}};
    case GgufType::u32: return {type, std::uint64_t{in.number<std::uint32_t>("the value")}};
    case GgufType::i32: return {type, std::int64_t{in.number<std::int32_t>("the value")}};
    case GgufType::f32: return {type, double{in.number<float>("the value")}};
    case GgufType::boolean: return {type, read_bool(in, key)};
    case GgufType::string: return {type, in.text("the string", kMaxStringBytes)};
    case GgufType::array: return {type, read_array(in, key)};
    case GgufType::u64: return {type, in.number<std::uint64_t>("the value")};
    case GgufType::i64: return {type, in.number<std::int64_t>("the value")};
    case GgufType::f64: return {type, in.number<double>("the value")};
  }
  in.fail("key " + in_quotes(key) + " has an unknown type", kWriteAgain);
}

struct Preamble {
  std::uint32_t version;
  std::uint64_t n_tensors, n_keys;
};

Preamble read_preamble(Cursor& in) {
  std::array<char, 4> magic;
  in.read(std::as_writable_bytes(std::span(magic)), "the magic");
  if (std::string_view(magic.data(), 4) != "GGUF")
    in.fail("starts with " + in_quotes({magic.data(), 4}) + ", expected 'GGUF'", "name a GGUF file");
  Preamble head;
  head.version = in.number<std::uint32_t>("the version");
  if ((head.version & 0xffff) == 0 && head.version != 0)
    in.fail("version reads as " + std::to_string(head.version) + ": the file is big-endian", "convert it on a little-endian machine, or again without --bigendian", ErrorKind::unsupported);
  if (head.version != 2 && head.version != 3)
    in.fail("GGUF version " + std::to_string(head.version) + ", expected 2 or 3", "write it again with a current converter", ErrorKind::unsupported);
  head.n_tensors = in.number<std::uint64_t>("the tensor count");
  head.n_keys = in.number<std::uint64_t>("the key count");
  in.check_count(head.n_keys, 8 + 4 + 1, kMaxKeys, "the key count");
  in.check_count(head.n_tensors, 8 + 4 + 4 + 8, kMaxTensors, "the tensor count");
  return head;
}

std::vector<GgufKey> read_keys(Cursor& in, std::uint64_t n_keys) {
  std::vector<GgufKey> keys;
  std::unordered_set<std::string> seen;
  for (std::uint64_t i = 0; i < n_keys; ++i) {
    in.set_subject(" of key number " + std::to_string(i));
    GgufKey key;
    key.name = in.text("the name", kMaxKeyBytes);
    if (key.name.empty()) in.fail("key number " + std::to_string(i) + " has no name", kWriteAgain);
    if (!is_printable_utf8(key.name)) in.fail("the name of key number " + std::to_string(i) + " is not printable UTF-8", kWriteAgain);
    if (!seen.insert(key.name).second) in.fail("key " + in_quotes(key.name) + " stands twice", kWriteAgain);
    in.set_subject(" of key " + in_quotes(key.name));
    key.value = read_value(in, key.name);
    keys.push_back(std::move(key));
  }
  in.set_subject("");
  return keys;
}

std::uint64_t read_alignment(const Cursor& in, const std::vector<GgufKey>& keys) {
  for (const GgufKey& key : keys) {
    if (key.name != "general.alignment") continue;
    if (key.value.type != GgufType::u32) in.fail(std::string("general.alignment has type ") + gguf_type_name(key.value.type) + ", expected u32", kWriteAgain);
    const std::uint64_t alignment = std::get<std::uint64_t>(key.value.value);
    if (alignment == 0 || (alignment & (alignment - 1)) != 0 || alignment > kMaxAlignment)
      in.fail("general.alignment is " + std::to_string(alignment) + ", expected a power of two up to " + std::to_string(kMaxAlignment), kWriteAgain);
    return alignment;
  }
  return 32;
}

struct Entry {
  TensorInfo info;
  std::uint64_t offset;  // from the start of the data
  std::uint64_t bytes;
};

TensorInfo read_shape_and_type(Cursor& in, std::string name) {
  TensorInfo info{.name = std::move(name), .shape = {}, .dtype = DType::f32};
  const auto n_dims = in.number<std::uint32_t>("the dimension count");
  if (n_dims > kMaxDims) in.fail("tensor " + in_quotes(info.name) + " has " + std::to_string(n_dims) + " dimensions, at most 4 are allowed", kWriteAgain);
  info.shape.resize(n_dims);
  for (std::uint32_t dim = 0; dim < n_dims; ++dim) {
    const auto extent = in.number<std::int64_t>("the shape");
    if (extent < 0) in.fail("tensor " + in_quotes(info.name) + " has a dimension of " + std::to_string(extent) + ", expected 0 or more", kWriteAgain);
    info.shape[n_dims - 1 - dim] = static_cast<std::uint64_t>(extent);  // fastest first in the file
  }
  const auto type = in.number<std::uint32_t>("the type");
  const std::optional<DType> dtype = dtype_from_ggml(type);
  if (!dtype) in.fail("tensor " + in_quotes(info.name) + " has ggml type " + std::to_string(type) + ", which llama.cpp 0.5 does not know", "write it again with a current converter", ErrorKind::unsupported);
  info.dtype = *dtype;
  return info;
}

Entry read_entry(Cursor& in, std::uint64_t number, std::unordered_set<std::string>& seen) {
  in.set_subject(" of tensor number " + std::to_string(number));
  std::string name = in.text("the name", kMaxKeyBytes);
  if (name.size() > kMaxNameBytes) in.fail("the name of tensor number " + std::to_string(number) + " has " + std::to_string(name.size()) + " bytes, at most 63 are allowed", kWriteAgain);
  if (name.empty() || !is_printable_utf8(name)) in.fail("the name of tensor number " + std::to_string(number) + " is empty or not printable UTF-8", kWriteAgain);
  if (!seen.insert(name).second) in.fail("tensor " + in_quotes(name) + " stands twice", kWriteAgain);
  in.set_subject(" of tensor " + in_quotes(name));
  Entry entry{read_shape_and_type(in, std::move(name)), 0, 0};
  const TensorInfo& info = entry.info;
  const std::optional<std::uint64_t> elements = element_count(info.shape);
  const auto block = static_cast<std::uint64_t>(ropewalk::info(info.dtype).block_elements);
  if (info.columns() % block != 0)
    in.fail("tensor " + in_quotes(info.name) + " has rows of " + std::to_string(info.columns()) + " elements, expected whole " + std::string(ropewalk::info(info.dtype).name) +
                " blocks of " + std::to_string(block),
            kWriteAgain);
  const std::optional<std::uint64_t> bytes = elements ? byte_size(info.dtype, *elements) : std::nullopt;
  if (!bytes || *bytes > std::uint64_t{1} << 62) in.fail("the shape of tensor " + in_quotes(info.name) + " does not fit in 64 bits", kWriteAgain);
  entry.bytes = *bytes;
  entry.offset = in.number<std::uint64_t>("the offset");
  return entry;
}

std::uint64_t padded(std::uint64_t bytes, std::uint64_t alignment) { return (bytes + alignment - 1) / alignment * alignment; }

/// One file, split or not. Its tensors are appended to `out`.
struct OneFile {
  std::shared_ptr<const File> file;
  Preamble head;
  std::uint64_t alignment = 32;
  std::vector<GgufKey> keys;
  std::vector<TensorPtr> tensors;
  std::vector<std::string> warnings;
};

void place_tensors(const Cursor& in, std::vector<Entry> entries, OneFile& one) {
  const std::string& path = one.file->path();
  const std::uint64_t data_begin = padded(in.position(), one.alignment);
  std::uint64_t running = 0;  // offset the next tensor must have
  std::uint64_t data_end = in.position();
  for (Entry& entry : entries) {
    const std::string name = in_quotes(entry.info.name);
    if (entry.offset != running)
      in.fail("tensor " + name + " has offset " + std::to_string(entry.offset) + ", expected " + std::to_string(running) + " (tensors follow each other without gap)", kWriteAgain);
    // data_begin and running stay below 2^63 because each tensor was found to lie inside the file
    const std::uint64_t begin = data_begin + running;
    if (begin > one.file->size() || entry.bytes > one.file->size() - begin)
      throw Error(ErrorKind::bad_input, {.path = path, .offset = begin},
                  "tensor " + name + " needs " + std::to_string(entry.bytes) + " bytes, " + std::to_string(begin > one.file->size() ? 0 : one.file->size() - begin) + " are left",
                  "the file is cut short: fetch it again");
    data_end = begin + entry.bytes;
    running += padded(entry.bytes, one.alignment);
    one.tensors.push_back(file_tensor(std::move(entry.info), one.file, begin));
  }
  const std::uint64_t whole = entries.empty() ? padded(data_end, one.alignment) : data_begin + running;
  if (one.file->size() > whole)
    one.warnings.push_back(path + ": " + std::to_string(one.file->size() - whole) + " bytes after the last tensor are ignored");
}

OneFile read_one(const std::filesystem::path& path) {
  OneFile one;
  one.file = File::open(path);
  Cursor in(one.file);
  one.head = read_preamble(in);
  one.keys = read_keys(in, one.head.n_keys);
  one.alignment = read_alignment(in, one.keys);
  std::vector<Entry> entries;
  std::unordered_set<std::string> seen;
  for (std::uint64_t i = 0; i < one.head.n_tensors; ++i) entries.push_back(read_entry(in, i, seen));
  in.set_subject("");
  place_tensors(in, std::move(entries), one);
  return one;
}

void append(GgufFile& out, OneFile one, int shard) {
  if (shard == 0) {
    out.version = one.head.version;
    out.alignment = one.alignment;
    out.keys = std::move(one.keys);
  }
  out.files.push_back(std::move(one.file));
  for (TensorPtr& tensor : one.tensors) {
    out.tensors.push_back(std::move(tensor));
    out.shard_of.push_back(shard);
  }
  for (std::string& warning : one.warnings) out.warnings.push_back(std::move(warning));
}

std::optional<std::uint64_t> key_integer(const OneFile& one, std::string_view key) {
  GgufFile view;
  view.files = {one.file};
  for (const GgufKey& candidate : one.keys)
    if (candidate.name == key) view.keys.push_back(candidate);
  return view.integer(key);
}

void check_shard(const OneFile& one, std::uint64_t number, std::uint64_t count) {
  const auto no = key_integer(one, "split.no");
  const auto said = key_integer(one, "split.count");
  const Error::Where where{.path = one.file->path()};
  if (!no || *no != number)
    throw Error(ErrorKind::bad_input, where, "split.no is " + (no ? std::to_string(*no) : "missing") + ", expected " + std::to_string(number) + " by the file's name",
                "keep the names the shards were written under");
  if (!said || *said != count)
    throw Error(ErrorKind::bad_input, where, "split.count is " + (said ? std::to_string(*said) : "missing") + ", expected " + std::to_string(count), "use shards of one conversion");
}

GgufFile read_split(const std::filesystem::path& path, std::uint64_t count) {
  const std::optional<GgufShardName> name = parse_shard_name(path);
  if (!name || name->count != count)
    throw Error(ErrorKind::bad_input, {.path = path.string()}, "holds one of " + std::to_string(count) + " shards, but its name does not end in -0000N-of-" + shard_number(count) + ".gguf",
                "give the shards the names they were written under");
  GgufFile out;
  for (std::uint64_t number = 0; number < count; ++number) {
    const std::filesystem::path shard = shard_path(*name, number);
    std::error_code ignored;
    if (!std::filesystem::exists(shard, ignored))
      throw Error(ErrorKind::bad_input, {.path = shard.string()}, "shard " + std::to_string(number + 1) + " of " + std::to_string(count) + " is missing", "put all shards in one folder");
    OneFile one = read_one(shard);
    check_shard(one, number, count);
    append(out, std::move(one), static_cast<int>(number));
  }
  std::unordered_set<std::string_view> seen;
  for (std::size_t i = 0; i < out.tensors.size(); ++i)
    if (!seen.insert(out.tensors[i]->name()).second)
      throw Error(ErrorKind::bad_input, {.path = out.files[static_cast<std::size_t>(out.shard_of[i])]->path()}, "tensor " + in_quotes(out.tensors[i]->name()) + " stands in an earlier shard too",
                  "use shards of one conversion");
  const auto total = out.integer("split.tensors.count");
  if (!total || *total != out.tensors.size())
    throw Error(ErrorKind::bad_input, {.path = out.files.front()->path()},
                "split.tensors.count is " + (total ? std::to_string(*total) : "missing") + ", the shards hold " + std::to_string(out.tensors.size()) + " tensors", "use shards of one conversion");
  return out;
}

}  // namespace

GgufFile read_gguf(const std::filesystem::path& path) {
  OneFile one = read_one(path);
  const std::uint64_t count = key_integer(one, "split.count").value_or(1);
  if (count > 65535) throw Error(ErrorKind::bad_input, {.path = path.string()}, "split.count is " + std::to_string(count) + ", at most 65535 are allowed", kWriteAgain);
  if (count > 1) return read_split(path, count);
  GgufFile out;
  append(out, std::move(one), 0);
  return out;
}

}  // namespace ropewalk::formats
