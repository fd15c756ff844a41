#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "lib/file.h"
#include "lib/pending_file.h"

// How far a command's sweeps have come (verify/sweep_journal.h), everything little-endian:
//
//   8 bytes   "RWSWEEP\x1a"
//   u32       version: 1; u32 0
//   u64 n     finished sweeps, in order: 64 bytes key; u64 n, f64 numbers[n]
//   u8        one is begun (0 or 1); if so
//             64 bytes key; u64 n, f64 numbers[n]
//             u32 layers done
//             u64 n, of models: u64 rows, u64 width; f32 hidden[rows x width]
//   64 bytes  sha256 of all before it
//
// keys and the sha256: lower-case hexadecimal.
namespace ropewalk::formats {

struct SweepNumbers {
  std::string key;
  std::vector<double> numbers;
};

/// Hidden states of one model in memory: `stride` floats from one row to the next.
template <class Float>
struct HiddenRows {
  Float* first;
  std::size_t rows, width, stride;
};

struct SweepState {
  struct Hidden {
    std::uint64_t rows, width, offset_bytes;
  };
  struct Begun {
    SweepNumbers sweep;
    int layers = 0;
    std::vector<Hidden> hidden;  // of each model
  };
  std::vector<SweepNumbers> finished;
  std::optional<Begun> begun;
  std::shared_ptr<const File> file;

  /// Fills `rows` with the states of one model of `begun`. Error(bad_input) if they are of another shape.
  void read_hidden(std::size_t model, const HiddenRows<float>& rows) const;
};

/// What write_sweep_state() writes of a sweep that is begun.
struct BegunSweep {
  const SweepNumbers& sweep;
  int layers;
  std::span<const HiddenRows<const float>> hidden;
};
/// Replaces `path` in one step. begun: nullptr if none is.
void write_sweep_state(const std::filesystem::path& path, std::span<const SweepNumbers> finished,
                       const BegunSweep* begun, WriteOptions options);

/// False for a file of any other kind.
bool is_sweep_state(const std::filesystem::path& path);
/// Error(bad_input) for a file of another kind, for one that is cut short or damaged, and for counts past its end.
SweepState read_sweep_state(const std::filesystem::path& path);

}  // namespace ropewalk::formats
