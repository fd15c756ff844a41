#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

namespace ropewalk::formats {

// Importance matrices of llama-imatrix 0.5, little-endian. As GGUF: per weight two f32 tensors, NAME.in_sum2 (columns,
// or columns x experts) and NAME.counts (1, or experts), and the keys imatrix.datasets, imatrix.chunk_count and
// imatrix.chunk_size. The older format (.dat), in file order:
//   i32 n_entries
//   n_entries x { i32 length, name ; i32 n_calls ; i32 n_values ; f32 values[n_values] }
//   optional: i32 n_chunks ; i32 length, dataset

/// How much every input of one weight counts: the mean square of what reached it.
struct ImatrixEntry {
  std::vector<float> values;       // [experts x columns], expert 0 first
  std::size_t experts = 1;         // 1 too where the file does not tell them apart (.dat)
  std::size_t experts_unseen = 0;  // never chosen while it was collected: their values are 1
};
struct Imatrix {
  std::string path;
  std::map<std::string, ImatrixEntry> entries;  // by GGUF name of the weight
  std::vector<std::string> datasets;
  std::int32_t chunks = 0;
};

/// Either format; values as llama-quantize 0.5 has them: in_sum2 / counts in float, 1 where the count is 0; of a .dat
/// divided by n_calls. Error(bad_input) for files cut short, entries without partner, counts that do not divide their
/// sums, values that are not finite or below 0, missing keys, entries of a .dat that stand twice, bytes after its end.
Imatrix read_imatrix(const std::filesystem::path& path);

}  // namespace ropewalk::formats
