#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "lib/file.h"
#include "lib/lazy_tensor.h"
#include "lib/value_range.h"

namespace ropewalk::formats {

// GGUF v3 (ggml/docs/gguf.md of llama.cpp 0.5), little-endian, in file order:
//   char[4] "GGUF" | u32 version | i64 n_tensors | i64 n_kv
//   n_kv      x { str key ; i32 type ; [array: i32 element type ; u64 n] ; payload }      str = u64 length + bytes;
//     bool = 1 byte
//   n_tensors x { str name ; u32 n_dims ; i64 ne[n_dims], fastest first ; i32 ggml type ; u64 offset }
//   zeros up to a multiple of general.alignment (default 32)
//   data: each tensor at its offset, padded with zeros to the alignment, the last one too

enum class GgufType : std::uint32_t {
  u8 = 0,
  i8 = 1,
  u16 = 2,
  i16 = 3,
  u32 = 4,
  i32 = 5,
  f32 = 6,
  boolean = 7,
  string = 8,
  array = 9,
  u64 = 10,
  i64 = 11,
  f64 = 12
};

/// Bytes of one element; 0 for string and array.
std::uint64_t gguf_type_bytes(GgufType type);
/// "u32", "f32", "string", ...
const char* gguf_type_name(GgufType type);

/// An array keeps its element type even when empty. Numbers of one array share one type.
struct GgufArray {
  GgufType element_type = GgufType::string;
  std::vector<std::string> strings;  // element_type string
  std::vector<std::byte> packed;     // any other: the elements as in the file
  std::uint64_t size() const noexcept;
};
struct GgufValue {
  GgufType type = GgufType::u32;
  // unsigned, signed, floating, bool, string, array by `type`
  std::variant<std::uint64_t, std::int64_t, double, bool, std::string, GgufArray> value;
};
struct GgufKey {
  std::string name;
  GgufValue value;
};

GgufValue gguf_u32(std::uint32_t v);
GgufValue gguf_u16(std::uint16_t v);
GgufValue gguf_i32(std::int32_t v);
GgufValue gguf_f32(float v);
GgufValue gguf_bool(bool v);
GgufValue gguf_string(std::string v);
GgufValue gguf_strings(std::vector<std::string> v);
GgufValue gguf_i32s(const std::vector<std::int32_t>& v);
GgufValue gguf_f32s(const std::vector<float>& v);
GgufValue gguf_u8s(std::string_view bytes);
/// Elements of an array of that type; empty if it is of another.
std::vector<std::int32_t> i32_elements(const GgufArray& array);
std::vector<float> f32_elements(const GgufArray& array);

/// A GGUF's metadata and tensors under GGUF names; several files if split (any shard may be opened: the others are
/// found beside it).
struct GgufFile {
  std::vector<std::shared_ptr<const File>> files;  // shard 0 first
  std::uint32_t version = 3;
  std::uint64_t alignment = 32;
  std::vector<GgufKey> keys;          // shard 0's, in file order
  std::vector<TensorPtr> tensors;     // of all shards, in file order; shape outermost first
  std::vector<int> shard_of;          // per tensor
  std::vector<std::string> warnings;  // one line each: what llama.cpp accepts but a whole file would not have
  // read_gguf_header's alone: names of tensors whose data is cut off, and names of shards that are not there
  std::vector<std::string> left_out, missing_shards;

  const GgufValue* find(std::string_view key) const;
  // Typed look-ups: nullopt if absent; Error(bad_input) naming key and types if it is of another kind. Any integer type
  // is accepted for integers.
  std::optional<std::uint64_t> integer(std::string_view key) const;
  std::optional<double> number(std::string_view key) const;
  std::optional<bool> boolean(std::string_view key) const;
  std::optional<std::string> string(std::string_view key) const;
  const GgufArray* array(std::string_view key) const;
};

/// Versions 2 and 3. All of llama.cpp's loader's checks (running offsets without gap, unique names, whole blocks,
/// alignment a power of two), caps on every count before allocating. Error(bad_input) with file, byte, found and
/// expected. As llama.cpp does, the padding after the last tensor may be missing and bytes after it are ignored (with a
/// warning). Memory: a few times the header's bytes; tensor data is not touched.
GgufFile read_gguf(const std::filesystem::path& path);
/// The same of a file that may be cut off: all keys, and the tensors before the first whose data is; the others are
/// `left_out`. Of a split file also the shards beside it, each cut off or not; the others are `missing_shards`.
GgufFile read_gguf_header(const std::filesystem::path& path);

/// A GGUF about to be written.
struct GgufTensorPlan {
  std::string name;                                                 // GGUF name
  TensorPtr tensor;                                                 // shape outermost first
  DType dtype;                                                      // encoding in the file
  OutOfRange out_of_range = OutOfRange::ieee;                       // of values that have to be encoded as it
  std::shared_ptr<const std::vector<float>> importances = nullptr;  // of its encoder (lib/executor.h, Sink)
};
struct GgufPlan {
  std::vector<GgufKey> keys;
  std::vector<GgufTensorPlan> tensors;
  std::uint64_t alignment = 32;
};
struct GgufSplit {
  std::optional<std::uint64_t> max_bytes = std::nullopt;    // converter's --split-max-size
  std::optional<std::uint64_t> max_tensors = std::nullopt;  // converter's --split-max-tensors
  bool no_tensor_first_split = false;
  std::vector<std::size_t> first_tensors = {};  // a new file begins with each of these tensors of the plan, ascending
};
/// One file of the plan, laid out before any data exists.
struct GgufShard {
  std::string suffix;  // "" or "-00001-of-00003"
  std::string header;  // all bytes before the data, padding included
  struct Place {
    std::size_t tensor;           // index in the plan
    std::uint64_t offset_bytes;   // absolute
    std::uint64_t padding_bytes;  // zeros after it
  };
  std::vector<Place> places;
  std::uint64_t file_bytes = 0;
};
/// Names of shards are "%s-%05d-of-%05d". All keys stand in shard 0; each shard has split.no and split.count (u16) and
/// split.tensors.count (i32), as the converter writes them, in place of any split.* keys of the plan. A shard closes
/// when the next tensor would pass max_bytes of tensor data or max_tensors.
/// Throws Error(bad_input) for names llama.cpp would refuse (64 bytes or more, twice), for more than 4 dims and for
/// rows that are not whole blocks.
std::vector<GgufShard> layout_gguf(const GgufPlan& plan, const GgufSplit& split = {});

}  // namespace ropewalk::formats
