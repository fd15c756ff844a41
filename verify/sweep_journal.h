#pragma once

#include <chrono>
#include <filesystem>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "formats/sweep_state.h"
#include "verify/forward.h"

namespace ropewalk::verify {

/// A sweep, by all that its results hang on.
struct SweepIdentity {
  std::string_view kind;  // "score", "compare"
  std::vector<const Checkpoint*> models;
  std::span<const Window> windows;
  std::string more = {};  // of what else there is
};

/// What the sweeps of one command, on the host, leave in a file now and then, so that the command run again goes on from
/// there to the same bits: results of those that are finished, hidden states of the one that is begun. A file says of
/// each by a sha256 what it is of: release, kind, windows, configurations, ropes, and every byte of the weights. Those are
/// read for it only where there is a file to take up or one to write. For one thread.
class SweepJournal {
 public:
  struct Options {
    std::filesystem::path file;
    std::chrono::duration<double> every;  // between two writes, each after a layer; 0: after every layer
    bool overwrite = false;               // begin anew where the file is damaged or of another run, instead of failing
    int threads = 0;
    std::string release;  // whose sums these are
    std::function<void(const std::string&)> say = {};
  };
  /// Reads the file, if there is one. Error(bad_input) if it is damaged, Error(io) if it is of another kind.
  explicit SweepJournal(Options options);

  /// Begins the next sweep; its models outlive it. What finish() was given for it, if the file has it. Error(io) if the
  /// file has another one in its place.
  std::optional<std::vector<double>> begin(const SweepIdentity& identity);
  /// How many layers of it the file has, 0 if none: fills the models' hidden states, and what the layers have found,
  /// `each` numbers a layer.
  int take_up(std::span<Forward* const> models, std::size_t each, std::vector<double>& found);
  /// So many layers are done.
  void keep(int layers, std::span<Forward* const> models, const std::vector<double>& found);
  /// It is done, and this is what it came to.
  void finish(std::vector<double> results);

  /// The command is done: the file goes, unless it was never looked into.
  void remove();

 private:
  using Weights = std::vector<TensorPtr>;
  struct Sweep {
    std::string key, hashed_but_weights;  // key: empty until somebody asks
    std::vector<Weights> weights = {};
    std::optional<std::vector<double>> results = {};  // of one that is finished
  };
  const std::string& key_of(Sweep& sweep);
  const std::string& hash_of(const Weights& weights);
  bool due() const;
  void write(int layers, std::span<const formats::HiddenRows<const float>> hidden, const std::vector<double>* found);

  Options options_;
  std::optional<formats::SweepState> left_;  // of an earlier run, until all of it is taken up
  std::size_t taken_ = 0;                    // finished sweeps of it
  std::vector<Sweep> sweeps_;                // all that were begun
  std::vector<std::pair<Weights, std::string>> hashes_;
  std::chrono::steady_clock::time_point written_ = std::chrono::steady_clock::now();
};

}  // namespace ropewalk::verify
