#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "formats/gguf.h"
#include "lib/pending_file.h"

namespace ropewalk::formats {

// Importance matrices of llama-imatrix 0.5, little-endian. As GGUF: per weight two f32 tensors, NAME.in_sum2 (columns,
// or columns x experts) and NAME.counts (1, or experts), and the keys imatrix.datasets, imatrix.chunk_count and
// imatrix.chunk_size. The older format (.dat), in file order:
//   i32 n_entries
//   n_entries x { i32 length, name ; i32 n_calls ; i32 n_values ; f32 values[n_values] }
//   optional: i32 n_chunks ; i32 length, dataset
// where values are sums / count * n_calls and n_calls = ceil(most counts / chunk size).

/// How much every input of one weight counts: the mean square of what reached it.
struct ImatrixEntry {
  std::vector<float> values;                // [experts x columns], expert 0 first
  std::size_t experts = 1;                  // 1 too where the file does not tell them apart (.dat)
  std::vector<std::size_t> experts_unseen;  // never chosen while it was collected, ascending: their values are 1
};
struct Imatrix {
  std::string path;
  std::map<std::string, ImatrixEntry> entries;  // by GGUF name of the weight
  std::vector<std::string> datasets;
  std::int32_t chunks = 0;
};

/// Either format; values as llama-quantize 0.5 has them: in_sum2 / counts in float, 1 where the count is 0; of a .dat
/// divided by n_calls. Error(bad_input) for files cut short, entries without partner, counts that do not divide their
/// sums or are below 0 or above kMaxImatrixRows, values that are not finite or below 0, missing keys, entries of a .dat
/// that stand twice, bytes after its end.
Imatrix read_imatrix(const std::filesystem::path& path);

/// Rows that one count may stand for: sums of two stay whole numbers, in 64 bits and in double.
inline constexpr std::int64_t kMaxImatrixRows = std::int64_t{1} << 53;

/// A matrix in the making: sums of squares and how many rows are in them.
struct ImatrixSums {
  std::vector<float> sums;           // [experts x columns], expert 0 first
  std::vector<std::int64_t> counts;  // [experts], or 1
};
struct ImatrixCollection {
  std::map<std::string, ImatrixSums> entries;  // by GGUF name of the weight
  std::vector<std::string> datasets;
};
/// Either format, refused as read_imatrix refuses. A .dat has lost its counts: n_calls x chunk_size stand for them, as
/// llama-imatrix --in-file has it; Error(bad_input) where that is out of range.
ImatrixCollection read_imatrix_sums(const std::filesystem::path& path, std::int64_t chunk_size);
/// Adds entry by entry, in float, as llama-imatrix --in-file does. Error(bad_input) naming `path` where an entry has
/// another number of sums or of counts than `total` has, but for one count, which then stands for all experts, or where
/// a sum of both is out of range.
void add_imatrix(ImatrixCollection& total, const ImatrixCollection& more, const std::string& path);
/// How many whole chunks the entry with the most rows has.
std::int64_t chunks_of(const ImatrixCollection& collection, std::int64_t chunk_size);

/// The bytes llama-imatrix 0.5 writes: entries by name; of a GGUF keys general.type and imatrix.*, and `more_keys` after
/// them; of a .dat the last dataset's name. Replaces its target as `options` allow. Error(bad_input) before a byte is
/// written for what read_imatrix would refuse, or no field of the format holds.
enum class ImatrixFormat { gguf, dat };
void write_imatrix(const std::filesystem::path& path, const ImatrixCollection& collection, std::int64_t chunk_size,
                   ImatrixFormat format, const WriteOptions& options, std::vector<GgufKey> more_keys = {});

}  // namespace ropewalk::formats
