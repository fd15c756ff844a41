#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "formats/imatrix.h"
#include "verify/input_squares.h"

namespace ropewalk::tools {

/// An importance matrix in the making. Kept in FILE.unfinished, a matrix itself with keys ropewalk.imatrix.* beside
/// llama-imatrix's, so that a run that was killed goes on where it was.
struct ImatrixState {
  formats::ImatrixCollection others;  // of --in-file, what this model has no place for
  verify::InputTotals totals;         // by canonical name
  std::vector<std::string> datasets;
  std::size_t chunks = 0;                       // done by this run
  double nll = 0, nll_squares = 0, scored = 0;  // of losses, where they are asked for
};

/// The state of a run that starts from `before` (of --in-file; empty: from nothing).
ImatrixState begin_imatrix(formats::ImatrixCollection before);
/// Error(bad_input) if `before` tells experts apart in a matrix that `model` has but once: it is of another model.
void check_one_model(const formats::ImatrixCollection& before, const Checkpoint& model);
/// As it is written, entries under GGUF names.
formats::ImatrixCollection collection_of(const ImatrixState& state);

std::filesystem::path unfinished_path(const std::filesystem::path& output);
/// `run`: what tells this run from any other.
void save_unfinished(const std::filesystem::path& output, const ImatrixState& state, std::int64_t chunk_size,
                     const std::string& run, const WriteOptions& options);
/// nullopt if there is none. One of another run: Error(io), or nullopt with `overwrite`.
std::optional<ImatrixState> read_unfinished(const std::filesystem::path& output, std::int64_t chunk_size,
                                            const std::string& run, bool overwrite);

}  // namespace ropewalk::tools
