#include "formats/safetensors.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>
#include <optional>
#include <string_view>
#include <tuple>

#include "formats/json.h"
#include "formats/limits.h"
#include "lib/error.h"
#include "lib/plural.h"
#include "lib/recipes.h"

namespace ropewalk::formats {
namespace {

constexpr std::uint64_t kMaxHeaderBytes = 100'000'000;  // the library's own cap
constexpr std::uint64_t kSizeBytes = 8;
constexpr char kMetadataKey[] = "__metadata__";
constexpr char kFetchAgain[] = "the file is cut short or corrupt: fetch it again";
constexpr char kNotValid[] = "the header is not valid safetensors: fetch or write the file again";

/// One tensor as its header entry claims it, offsets relative to the data.
struct Entry {
  TensorInfo info;
  std::uint64_t begin, end;
};

class HeaderReader {
 public:
  explicit HeaderReader(std::shared_ptr<const File> file) : file_(std::move(file)) {}

  SafetensorsFile read() {
    read_text();
    const Json header =
        parse_embedded_json(file_->path(), text_, kSizeBytes,
                            {.max_bytes = kMaxHeaderBytes, .max_depth = 3, .max_members = kMaxTensorsPerFile + 1});
    SafetensorsFile out;
    std::vector<Entry> entries;
    for (const auto& [name, value] : header.get_ref<const Json::object_t&>()) {
      if (name == kMetadataKey) read_metadata(value, out.metadata);
      else entries.push_back(read_entry(name, value));
    }
    check_coverage(entries);
    for (Entry& entry : entries)
      out.tensors.push_back(file_tensor(std::move(entry.info), file_, data_start_ + entry.begin));
    out.file = std::move(file_);
    return out;
  }

 private:
  [[noreturn]] void fail(std::uint64_t offset, const std::string& problem, const char* fix,
                         ErrorKind kind = ErrorKind::bad_input) const {
    throw Error(kind, {.path = file_->path(), .offset = offset}, problem, fix);
  }
  /// At the value that `field` of tensor `name` has; at the tensor's own value without a field.
  [[noreturn]] void fail_at(const std::string& name, const std::string& field, const std::string& problem,
                            const char* fix = kNotValid, ErrorKind kind = ErrorKind::bad_input) const {
    const auto offset = locate_offset(text_, "/" + pointer_segment(name) + (field.empty() ? "" : "/" + field));
    fail(kSizeBytes + offset.value_or(0), "'" + name + "' " + problem, fix, kind);
  }

  void read_text() {
    if (file_->size() < kSizeBytes) fail(0, "the header's size needs 8 bytes, " + are_left(file_->size()), kFetchAgain);
    std::array<std::byte, kSizeBytes> raw;
    file_->read(0, raw);
    std::uint64_t header_bytes = 0;
    for (std::size_t i = kSizeBytes; i-- > 0;)
      header_bytes = header_bytes << 8 | std::to_integer<std::uint64_t>(raw[i]);
    if (std::memcmp(raw.data(), "version ", kSizeBytes) == 0)  // no header is that long
      fail(0, "starts as a Git LFS pointer ('version ...'), which stands for a file that was not fetched",
           "run 'git lfs pull' in its repository");
    if (header_bytes > kMaxHeaderBytes)
      fail(0,
           "the header claims " + std::to_string(header_bytes) + " bytes, at most " + std::to_string(kMaxHeaderBytes) +
               " are allowed",
           "this is not a safetensors file, or it is corrupt: fetch it again");
    if (header_bytes > file_->size() - kSizeBytes)
      fail(kSizeBytes,
           "the header needs " + std::to_string(header_bytes) + " bytes, " + are_left(file_->size() - kSizeBytes),
           kFetchAgain);
    text_.resize(header_bytes);
    file_->read(kSizeBytes, std::as_writable_bytes(std::span(text_)));
    if (!text_.starts_with('{')) fail(kSizeBytes, "the header does not start with '{'", kNotValid);
    data_start_ = kSizeBytes + header_bytes;
    data_bytes_ = file_->size() - data_start_;
  }

  void read_metadata(const Json& value, std::map<std::string, std::string>& metadata) const {
    if (!value.is_object())
      fail_at(kMetadataKey, "", std::string("is ") + value.type_name() + ", expected an object of strings");
    for (const auto& [key, text] : value.get_ref<const Json::object_t&>()) {
      if (!text.is_string())
        fail_at(kMetadataKey, pointer_segment(key),
                "has for '" + key + "' " + text.type_name() + ", expected a string");
      metadata.emplace(key, text.get_ref<const std::string&>());
    }
  }

  Entry read_entry(const std::string& name, const Json& value) const {
    if (!value.is_object()) fail_at(name, "", std::string("is ") + value.type_name() + ", expected an object");
    const Json *dtype_field = nullptr, *shape_field = nullptr, *offsets_field = nullptr;
    for (const auto& [key, field] : value.get_ref<const Json::object_t&>()) {
      if (key == "dtype") dtype_field = &field;
      else if (key == "shape") shape_field = &field;
      else if (key == "data_offsets") offsets_field = &field;
      else fail_at(name, pointer_segment(key), "has an unknown field '" + key + "'");
    }
    for (const auto& [field, key] :
         {std::pair(dtype_field, "dtype"), std::pair(shape_field, "shape"), std::pair(offsets_field, "data_offsets")})
      if (field == nullptr) fail_at(name, "", std::string("has no ") + key);

    Entry entry{
        {.name = name, .shape = read_sizes(name, "shape", *shape_field), .dtype = read_dtype(name, *dtype_field)},
        0,
        0};
    const auto offsets = read_sizes(name, "data_offsets", *offsets_field);
    if (offsets.size() != 2)
      fail_at(name, "data_offsets", "has " + std::to_string(offsets.size()) + " data_offsets, expected 2");
    entry.begin = offsets[0];
    entry.end = offsets[1];
    check_size(entry);
    return entry;
  }

  DType read_dtype(const std::string& name, const Json& field) const {
    if (!field.is_string())
      fail_at(name, "dtype", std::string("has ") + field.type_name() + " for a dtype, expected a string");
    const auto& text = field.get_ref<const std::string&>();
    const auto dtype = dtype_from_safetensors(text);
    if (!dtype)
      fail_at(name, "dtype", "has dtype '" + text + "', which is not known here",
              "convert it to F32, F16 or BF16 first", ErrorKind::unsupported);
    return *dtype;
  }

  std::vector<std::uint64_t> read_sizes(const std::string& name, const char* key, const Json& field) const {
    if (!field.is_array())
      fail_at(name, key, std::string("has ") + field.type_name() + " for " + key + ", expected an array");
    std::vector<std::uint64_t> out;
    for (const Json& element : field) {
      if (!element.is_number_unsigned())
        fail_at(name, key + ("/" + std::to_string(out.size())),
                "has " + element.dump() + " in " + key + ", expected a whole number of 0 or more");
      out.push_back(element.get<std::uint64_t>());
    }
    return out;
  }

  void check_size(const Entry& entry) const {
    const std::string& name = entry.info.name;
    const auto elements = element_count(entry.info.shape);
    const auto bytes = elements ? byte_size(entry.info.dtype, *elements) : std::nullopt;
    if (!bytes) fail_at(name, "shape", "has a shape whose size does not fit in 64 bits");
    const std::string range = std::to_string(entry.begin) + " to " + std::to_string(entry.end);
    if (entry.begin > entry.end) fail_at(name, "data_offsets", "ends before it begins: " + range);
    if (entry.end > data_bytes_)
      fail_at(name, "data_offsets", "needs data up to byte " + std::to_string(entry.end) + ", " + are_left(data_bytes_),
              kFetchAgain);
    if (entry.end - entry.begin != *bytes)
      fail_at(name, "data_offsets",
              "needs " + plural(*bytes, "byte") + " by dtype and shape, its offsets " + range + " give " +
                  std::to_string(entry.end - entry.begin));
  }

  /// Sorts by place and checks that the data is covered without gap or overlap.
  void check_coverage(std::vector<Entry>& entries) const {
    std::stable_sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) {
      return std::tie(a.begin, a.end) < std::tie(b.begin, b.end);
    });
    std::uint64_t covered = 0;
    std::string previous;
    for (const Entry& entry : entries) {
      if (entry.begin < covered)
        fail_at(entry.info.name, "data_offsets",
                "overlaps '" + previous + "': begins at " + std::to_string(entry.begin) + ", which ends at " +
                    std::to_string(covered));
      if (entry.begin > covered)
        fail_at(entry.info.name, "data_offsets",
                "leaves a gap: begins at " + std::to_string(entry.begin) + ", the data before it ends at " +
                    std::to_string(covered));
      covered = entry.end;
      previous = entry.info.name;
    }
    if (covered != data_bytes_)
      fail(data_start_ + covered,
           plural(data_bytes_ - covered, "byte") + (data_bytes_ - covered == 1 ? " belongs" : " belong") +
               " to no tensor",
           kNotValid);
  }

  std::shared_ptr<const File> file_;
  std::string text_;
  std::uint64_t data_start_ = 0, data_bytes_ = 0;
};

}  // namespace

SafetensorsFile read_safetensors(const std::filesystem::path& path) { return HeaderReader(File::open(path)).read(); }

}  // namespace ropewalk::formats
