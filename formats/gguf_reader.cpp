#include <algorithm>
#include <array>
#include <span>
#include <unordered_set>

#include "formats/gguf.h"
#include "formats/gguf_cursor.h"
#include "formats/gguf_read_keys.h"
#include "formats/gguf_split.h"
#include "formats/limits.h"
#include "lib/error.h"
#include "lib/plural.h"
#include "lib/recipes.h"

namespace ropewalk::formats {
namespace {

// What a header may claim; nothing published comes near.
constexpr std::uint64_t kMaxKeys = 1 << 16;
constexpr std::size_t kMaxNameBytes = 63;  // of a tensor: GGML_MAX_NAME counts the final NUL
constexpr std::uint32_t kMaxDims = 4;

struct Preamble {
  std::uint32_t version;
  std::uint64_t n_tensors, n_keys;
};

Preamble read_preamble(GgufCursor& in) {
  std::array<char, 4> magic;
  in.read(std::as_writable_bytes(std::span(magic)), "the magic");
  if (std::string_view(magic.data(), 4) != "GGUF")
    in.fail("starts with " + in_quotes({magic.data(), 4}) + ", expected 'GGUF'", "name a GGUF file");
  Preamble head;
  head.version = in.number<std::uint32_t>("the version");
  if ((head.version & 0xffff) == 0 && head.version != 0)
    in.fail("version reads as " + std::to_string(head.version) + ": the file is big-endian",
            "convert it on a little-endian machine, or again without --bigendian", ErrorKind::unsupported);
  if (head.version != 2 && head.version != 3)
    in.fail("GGUF version " + std::to_string(head.version) + ", expected 2 or 3",
            "write it again with a current converter", ErrorKind::unsupported);
  head.n_tensors = in.number<std::uint64_t>("the tensor count");
  in.check_count(head.n_tensors, 8 + 4 + 4 + 8, kMaxTensorsPerFile, "the tensor count");
  head.n_keys = in.number<std::uint64_t>("the key count");
  in.check_count(head.n_keys, 8 + 4 + 1, kMaxKeys, "the key count");
  return head;
}

struct Entry {
  TensorInfo info;
  std::uint64_t offset;  // from the start of the data
  std::uint64_t bytes;
  std::uint64_t type_place, offset_place;  // of these fields in the file
};

TensorInfo read_shape_and_type(GgufCursor& in, std::string name) {
  TensorInfo info{.name = std::move(name), .shape = {}, .dtype = DType::f32};
  const auto n_dims = in.number<std::uint32_t>("the dimension count");
  if (n_dims > kMaxDims)
    in.fail("tensor " + in_quotes(info.name) + " has " + std::to_string(n_dims) + " dimensions, at most 4 are allowed",
            kGgufWriteAgain);
  info.shape.resize(n_dims);
  for (std::uint32_t dim = 0; dim < n_dims; ++dim) {
    const auto extent = in.number<std::int64_t>("the shape");
    if (extent < 0)
      in.fail(
          "tensor " + in_quotes(info.name) + " has a dimension of " + std::to_string(extent) + ", expected 0 or more",
          kGgufWriteAgain);
    info.shape[n_dims - 1 - dim] = static_cast<std::uint64_t>(extent);  // fastest first in the file
  }
  const auto type = in.number<std::uint32_t>("the type");
  const std::optional<DType> dtype = dtype_from_ggml(type);
  if (!dtype)
    in.fail("tensor " + in_quotes(info.name) + " has ggml type " + std::to_string(type) +
                ", which llama.cpp 0.5 does not know",
            "write it again with a current converter", ErrorKind::unsupported);
  info.dtype = *dtype;
  return info;
}

Entry read_entry(GgufCursor& in, std::uint64_t number, std::unordered_set<std::string>& seen) {
  in.set_subject(" of tensor number " + std::to_string(number));
  std::string name = in.text("the name", kMaxGgufNameBytes);
  if (name.size() > kMaxNameBytes)
    in.fail("the name of tensor number " + std::to_string(number) + " has " + std::to_string(name.size()) +
                " bytes, at most 63 are allowed",
            kGgufWriteAgain);
  if (name.empty() || !is_printable_utf8(name))
    in.fail("the name of tensor number " + std::to_string(number) + " is empty or not printable UTF-8",
            kGgufWriteAgain);
  if (!seen.insert(name).second) in.fail("tensor " + in_quotes(name) + " stands twice", kGgufWriteAgain);
  in.set_subject(" of tensor " + in_quotes(name));
  const std::uint64_t shape_place = in.position();
  Entry entry{read_shape_and_type(in, std::move(name)), 0, 0, 0, 0};
  entry.type_place = in.field();
  const TensorInfo& info = entry.info;
  const std::optional<std::uint64_t> elements = element_count(info.shape);
  const auto block = static_cast<std::uint64_t>(ropewalk::info(info.dtype).block_elements);
  if (info.columns() % block != 0)
    in.fail("tensor " + in_quotes(info.name) + " has rows of " + std::to_string(info.columns()) +
                " elements, expected whole " + std::string(ropewalk::info(info.dtype).name) + " blocks of " +
                std::to_string(block),
            kGgufWriteAgain);
  const std::optional<std::uint64_t> bytes = elements ? byte_size(info.dtype, *elements) : std::nullopt;
  if (!bytes || *bytes > std::uint64_t{1} << 62)
    in.fail_at(shape_place, "the shape of tensor " + in_quotes(info.name) + " does not fit in 64 bits",
               kGgufWriteAgain);
  entry.bytes = *bytes;
  entry.offset = in.number<std::uint64_t>("the offset");
  entry.offset_place = in.field();
  return entry;
}

std::uint64_t padded(std::uint64_t bytes, std::uint64_t alignment) {
  return (bytes + alignment - 1) / alignment * alignment;
}

/// One file, split or not. Its tensors are appended to `out`.
struct OneFile {
  std::shared_ptr<const File> file;
  Preamble head;
  std::uint64_t alignment = 32;
  std::vector<GgufKey> keys;
  std::vector<TensorPtr> tensors;
  std::vector<std::string> warnings, left_out;
};

/// Entry i, at an offset that is not where the one before ends: the fault of that one's type or shape where all from i on
/// fit together and end with the file, else of the offset.
[[noreturn]] void fail_offset(const GgufCursor& in, const std::vector<Entry>& entries, std::size_t i,
                              std::uint64_t expected, std::uint64_t alignment, std::uint64_t data_bytes) {
  const Entry& entry = entries[i];
  const std::string name = in_quotes(entry.info.name);
  std::uint64_t end = entry.offset;
  bool fit = i > 0 && entry.offset > entries[i - 1].offset && entry.offset % alignment == 0;
  for (std::size_t next = i; fit && next < entries.size(); ++next) {
    fit = entries[next].offset == end && entries[next].bytes <= data_bytes && end <= data_bytes - entries[next].bytes;
    if (fit) end += next + 1 < entries.size() ? padded(entries[next].bytes, alignment) : entries[next].bytes;
  }
  if (fit && padded(end, alignment) >= data_bytes) {
    const Entry& before = entries[i - 1];
    in.fail_at(before.type_place,
               "tensor " + in_quotes(before.info.name) + " takes " + plural(before.bytes, "byte") +
                   " by its type and shape, and the next, " + name + ", begins " +
                   plural(entry.offset - before.offset, "byte") + " after it",
               kGgufWriteAgain);
  }
  in.fail_at(entry.offset_place,
             "tensor " + name + " has offset " + std::to_string(entry.offset) + ", expected " +
                 std::to_string(expected) + " (tensors follow each other without gap)",
             kGgufWriteAgain);
}

/// `partial`: tensors from the first on whose data is cut off are left out.
void place_tensors(const GgufCursor& in, const std::vector<Entry>& entries, OneFile& one, bool partial) {
  const std::string& path = one.file->path();
  const std::uint64_t data_begin = padded(in.position(), one.alignment);
  std::uint64_t running = 0;  // offset the next tensor must have
  std::uint64_t data_end = in.position();
  for (std::size_t i = 0; i < entries.size(); ++i) {
    const Entry& entry = entries[i];
    if (entry.offset != running)
      fail_offset(in, entries, i, running, one.alignment, one.file->size() - std::min(data_begin, one.file->size()));
    // data_begin and running stay below 2^63 because each tensor was found to lie inside the file
    const std::uint64_t begin = data_begin + running;
    const bool cut_off = begin > one.file->size() || entry.bytes > one.file->size() - begin;
    if (cut_off && partial) {
      for (std::size_t rest = i; rest < entries.size(); ++rest) one.left_out.push_back(entries[rest].info.name);
      return;
    }
    if (cut_off)
      throw Error(ErrorKind::bad_input, {.path = path, .offset = begin},
                  "tensor " + in_quotes(entry.info.name) + " needs " + plural(entry.bytes, "byte") + ", " +
                      are_left(begin > one.file->size() ? 0 : one.file->size() - begin),
                  "the file is cut short: fetch it again");
    data_end = begin + entry.bytes;
    running += padded(entry.bytes, one.alignment);
    one.tensors.push_back(file_tensor(entry.info, one.file, begin));
  }
  const std::uint64_t whole = entries.empty() ? padded(data_end, one.alignment) : data_begin + running;
  if (one.file->size() > whole)
    one.warnings.push_back(path + ": " + plural(one.file->size() - whole, "byte") + " after the last tensor " +
                           (one.file->size() - whole == 1 ? "is" : "are") + " ignored");
}

OneFile read_one(const std::filesystem::path& path, bool partial = false) {
  OneFile one;
  one.file = File::open(path);
  GgufCursor in(one.file);
  one.head = read_preamble(in);
  one.keys = read_gguf_keys(in, one.head.n_keys);
  one.alignment = gguf_alignment(one.keys);
  std::vector<Entry> entries;
  std::unordered_set<std::string> seen;
  for (std::uint64_t i = 0; i < one.head.n_tensors; ++i) entries.push_back(read_entry(in, i, seen));
  in.set_subject("");
  place_tensors(in, entries, one, partial);
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
  for (std::string& name : one.left_out) out.left_out.push_back(std::move(name));
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
    throw Error(ErrorKind::bad_input, where,
                "split.no is " + (no ? std::to_string(*no) : "missing") + ", expected " + std::to_string(number) +
                    " by the file's name",
                "keep the names the shards were written under");
  if (!said || *said != count)
    throw Error(ErrorKind::bad_input, where,
                "split.count is " + (said ? std::to_string(*said) : "missing") + ", expected " + std::to_string(count),
                "use shards of one conversion");
}

std::uint64_t shard_count(const OneFile& one) {
  const std::uint64_t count = key_integer(one, "split.count").value_or(1);
  if (count > 65535)
    throw Error(ErrorKind::bad_input, {.path = one.file->path()},
                "split.count is " + std::to_string(count) + ", at most 65535 are allowed", kGgufWriteAgain);
  return count;
}

/// The name of a shard, which must say what split.count does.
GgufShardName shard_name(const std::filesystem::path& path, std::uint64_t count) {
  const std::optional<GgufShardName> name = parse_shard_name(path);
  if (!name || name->count != count)
    throw Error(ErrorKind::bad_input, {.path = path.string()},
                "holds one of " + std::to_string(count) + " shards, but its name does not end in -0000N-of-" +
                    shard_number(count) + ".gguf",
                "give the shards the names they were written under");
  return *name;
}

GgufFile read_split(const std::filesystem::path& path, std::uint64_t count) {
  const GgufShardName name = shard_name(path, count);
  GgufFile out;
  for (std::uint64_t number = 0; number < count; ++number) {
    const std::filesystem::path shard = shard_path(name, number);
    if (!is_there(shard))
      throw Error(ErrorKind::bad_input, {.path = shard.string()},
                  "shard " + std::to_string(number + 1) + " of " + std::to_string(count) + " is missing",
                  "put all shards in one folder");
    OneFile one = read_one(shard);
    check_shard(one, number, count);
    append(out, std::move(one), static_cast<int>(number));
  }
  std::unordered_set<std::string_view> seen;
  for (std::size_t i = 0; i < out.tensors.size(); ++i)
    if (!seen.insert(out.tensors[i]->name()).second)
      throw Error(ErrorKind::bad_input, {.path = out.files[static_cast<std::size_t>(out.shard_of[i])]->path()},
                  "tensor " + in_quotes(out.tensors[i]->name()) + " stands in an earlier shard too",
                  "use shards of one conversion");
  const auto total = out.integer("split.tensors.count");
  if (!total || *total != out.tensors.size())
    throw Error(ErrorKind::bad_input, {.path = out.files.front()->path()},
                "split.tensors.count is " + (total ? std::to_string(*total) : "missing") + ", the shards hold " +
                    std::to_string(out.tensors.size()) + " tensors",
                "use shards of one conversion");
  return out;
}

}  // namespace

GgufFile read_gguf(const std::filesystem::path& path) {
  OneFile one = read_one(path);
  if (const std::uint64_t count = shard_count(one); count > 1) return read_split(path, count);
  GgufFile out;
  append(out, std::move(one), 0);
  return out;
}

GgufFile read_gguf_header(const std::filesystem::path& path) {
  OneFile one = read_one(path, true);
  const std::uint64_t count = shard_count(one);
  GgufFile out;
  if (count <= 1) {
    append(out, std::move(one), 0);
    return out;
  }
  const GgufShardName name = shard_name(path, count);
  for (std::uint64_t number = 0; number < count; ++number) {
    const std::filesystem::path shard = shard_path(name, number);
    if (number != name.number && !is_there(shard)) {
      out.missing_shards.push_back(shard.filename().string());
      continue;
    }
    OneFile part = number == name.number ? std::move(one) : read_one(shard, true);
    check_shard(part, number, count);
    append(out, std::move(part), static_cast<int>(number));
  }
  return out;
}

}  // namespace ropewalk::formats
