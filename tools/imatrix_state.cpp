#include "tools/imatrix_state.h"

#include "formats/gguf_model.h"
#include "lib/error.h"
#include "lib/plural.h"

namespace ropewalk::tools {
namespace {

namespace fs = std::filesystem;

constexpr const char *kRun = "ropewalk.imatrix.run", *kChunks = "ropewalk.imatrix.chunks",
                     *kNll = "ropewalk.imatrix.nll", *kSquares = "ropewalk.imatrix.nll_squares",
                     *kScored = "ropewalk.imatrix.scored";

formats::GgufValue f64(double value) { return {formats::GgufType::f64, value}; }

}  // namespace

ImatrixState begin_imatrix(formats::ImatrixCollection before) {
  ImatrixState state;
  state.datasets = std::move(before.datasets);
  for (auto& [name, entry] : before.entries) {
    const auto canonical = formats::canonical_tensor_name(name);
    if (canonical && entry.counts.size() == 1) state.totals[*canonical] = {std::move(entry.sums), entry.counts.front()};
    else state.others.entries[name] = std::move(entry);
  }
  return state;
}

void check_one_model(const formats::ImatrixCollection& before, const Checkpoint& model) {
  for (const auto& [name, entry] : before.entries) {
    const auto canonical = formats::canonical_tensor_name(name);
    if (entry.counts.size() == 1 || !canonical || !model.find(*canonical)) continue;
    throw Error(ErrorKind::bad_input, {.path = "--in-file"},
                "'" + name + "' has " + plural(entry.counts.size(), "count") + ", what is added to it 1",
                "add matrices of one model");
  }
}

formats::ImatrixCollection collection_of(const ImatrixState& state) {
  formats::ImatrixCollection collection = state.others;
  collection.datasets = state.datasets;
  for (const auto& [name, total] : state.totals)
    collection.entries[formats::gguf_tensor_name(name).value_or(name)] = {total.sums, {total.rows}};
  return collection;
}

fs::path unfinished_path(const fs::path& output) { return output.string() + ".unfinished"; }

void save_unfinished(const fs::path& output, const ImatrixState& state, std::int64_t chunk_size, const std::string& run,
                     const WriteOptions& options) {
  WriteOptions replacing = options;
  replacing.overwrite = true;
  formats::write_imatrix(unfinished_path(output), collection_of(state), chunk_size, formats::ImatrixFormat::gguf,
                         replacing,
                         {{kRun, formats::gguf_string(run)},
                          {kChunks, formats::gguf_u32(static_cast<std::uint32_t>(state.chunks))},
                          {kNll, f64(state.nll)},
                          {kSquares, f64(state.nll_squares)},
                          {kScored, f64(state.scored)}});
}

std::optional<ImatrixState> read_unfinished(const fs::path& output, std::int64_t chunk_size, const std::string& run,
                                            bool overwrite) {
  const fs::path path = unfinished_path(output);
  if (!fs::exists(path)) return std::nullopt;
  const formats::GgufFile file = formats::read_gguf(path);
  if (file.string(kRun).value_or("") != run) {
    if (overwrite) return std::nullopt;
    throw Error(ErrorKind::io, {.path = path.string()},
                "is of another run: of other weights, another text or other options",
                "remove it, give --overwrite, or run what it was begun with");
  }
  ImatrixState state = begin_imatrix(formats::read_imatrix_sums(path, chunk_size));
  state.chunks = file.integer(kChunks).value_or(0);
  state.nll = file.number(kNll).value_or(0);
  state.nll_squares = file.number(kSquares).value_or(0);
  state.scored = file.number(kScored).value_or(0);
  return state;
}

}  // namespace ropewalk::tools
