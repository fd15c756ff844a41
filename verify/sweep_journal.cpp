#include "verify/sweep_journal.h"

#include <algorithm>
#include <set>

#include "lib/error.h"
#include "lib/file.h"
#include "lib/plural.h"
#include "lib/sha256.h"
#include "lib/unmerged.h"
#include "verify/workers.h"

namespace ropewalk::verify {
namespace {

/// sha256 of fields, each with its end.
class FieldHash {
 public:
  void add(std::string_view text) {
    add_number(text.size());
    hash_.update(std::as_bytes(std::span(text)));
  }
  template <class T>
  void add_number(T number) {
    hash_.update(std::as_bytes(std::span(&number, 1)));
  }
  template <class T>
  void add_list(const std::vector<T>& values) {
    add_number(values.size());
    hash_.update(std::as_bytes(std::span(values)));
  }
  void add_bytes(std::span<const std::byte> bytes) { hash_.update(bytes); }
  std::string finish() { return hash_.finish(); }

 private:
  Sha256 hash_;
};

/// All of it that a forward pass over windows of these lengths looks at.
void add_config(const ModelConfig& config, const std::set<std::size_t>& lengths, FieldHash& hash) {
  hash.add(config.model_type);
  for (const int n : {config.n_layers, config.d_model, config.n_heads, config.n_kv_heads, config.head_dim, config.d_ff,
                      config.n_vocab, config.context, config.sliding_window.value_or(-1), config.tied_head ? 1 : 0,
                      config.attention_bias ? 1 : 0, config.mlp_bias ? 1 : 0, static_cast<int>(config.rotary_pairs),
                      config.rope.rotary_dim})
    hash.add_number(n);
  hash.add_number(config.rms_eps);
  for (const std::size_t length : lengths) {
    const RopeTable table = rope_table(config.rope, static_cast<int>(length));
    hash.add_number(table.attention_factor);
    hash.add_list(table.inv_freq);
  }
}

/// Rows as a sweep reads them, without arithmetic where the bytes can be had.
void add_rows(const LazyTensor& tensor, FieldHash& hash) {
  const TensorInfo& shape = tensor.info();
  hash.add(shape.name);
  hash.add_list(shape.shape);
  hash.add_number(shape.dtype);
  hash.add_number(shape.pairs);
  tensor.prepare();
  const bool raw = tensor.has_raw();
  const std::uint64_t row_bytes = raw ? shape.row_bytes() : shape.columns() * sizeof(float), unit = tensor.row_unit(),
                      block = std::max<std::uint64_t>(
                                  1, (std::uint64_t{1} << 20) / std::max<std::uint64_t>(1, row_bytes) / unit) *
                              unit;
  std::vector<std::byte> bytes;
  std::vector<float> values;
  for (std::uint64_t begin = 0; begin < shape.rows(); begin += block) {
    const RowRange range{begin, std::min(begin + block, shape.rows())};
    if (raw) {
      bytes.resize(range.size() * row_bytes);
      tensor.read_raw(range, bytes);
      hash.add_bytes(bytes);
    } else {
      values.resize(range.size() * shape.columns());
      tensor.read_f32(range, values);
      hash.add_bytes(std::as_bytes(std::span(values)));
    }
  }
  tensor.release();
}

std::string hash_of_tensor(const LazyTensor& tensor) {
  FieldHash hash;
  if (const auto parts = taken_apart(tensor))
    for (const TensorPtr& part : {parts->weight, parts->a, parts->b}) add_rows(*part, hash);
  else add_rows(tensor, hash);
  return hash.finish();
}

std::string hash_but_weights(const SweepIdentity& sweep, const std::string& release) {
  FieldHash hash;
  hash.add(release);
  hash.add(sweep.kind);
  hash.add(sweep.more);
  std::set<std::size_t> lengths;
  hash.add_number(sweep.windows.size());
  for (const Window& window : sweep.windows) hash.add_list(window), lengths.insert(window.size());
  for (const Checkpoint* model : sweep.models) add_config(model->config, lengths, hash);
  return hash.finish();
}

}  // namespace

SweepJournal::SweepJournal(Options options) : options_(std::move(options)) {
  if (!is_there(options_.file)) return;
  if (!formats::is_sweep_state(options_.file))  // with --overwrite too: it may be anything
    throw std::filesystem::is_empty(options_.file)
        ? Error(ErrorKind::io, {.path = options_.file.string()},
                "is there and empty, where unfinished sweeps were expected",
                "remove it: a file to keep them in is made when there is something to keep")
        : Error(ErrorKind::io, {.path = options_.file.string()}, "is there and holds no unfinished sweeps",
                "name another file to keep them in");
  try {
    left_ = formats::read_sweep_state(options_.file);
  } catch (const Error& damaged) {
    if (!options_.overwrite || damaged.kind() != ErrorKind::bad_input) throw;
    if (options_.say) options_.say(std::string(damaged.what()) + " (--overwrite: begins anew)");
  }
}

const std::string& SweepJournal::hash_of(const Weights& weights) {
  for (const auto& [known, hash] : hashes_)
    if (known == weights) return hash;
  std::vector<std::string> each(weights.size());
  Workers(options_.threads).for_each(weights.size(), [&](std::size_t i, std::size_t) {
    each[i] = hash_of_tensor(*weights[i]);
  });
  FieldHash hash;
  for (const std::string& one : each) hash.add(one);
  return hashes_.emplace_back(weights, hash.finish()).second;
}

const std::string& SweepJournal::key_of(Sweep& sweep) {
  if (sweep.key.empty()) {
    FieldHash hash;
    hash.add(sweep.hashed_but_weights);
    for (const Weights& weights : sweep.weights) hash.add(hash_of(weights));
    sweep.key = hash.finish();
  }
  return sweep.key;
}

std::optional<std::vector<double>> SweepJournal::begin(const SweepIdentity& identity) {
  Sweep& sweep = sweeps_.emplace_back(Sweep{{}, hash_but_weights(identity, options_.release)});
  for (const Checkpoint* model : identity.models) sweep.weights.push_back(model->tensors);
  if (!left_) return std::nullopt;
  const bool finished = taken_ < left_->finished.size();
  if (!finished && !left_->begun) {
    left_.reset();
    return std::nullopt;
  }
  formats::SweepNumbers& found = finished ? left_->finished[taken_] : left_->begun->sweep;
  if (found.key != key_of(sweep)) {
    if (!options_.overwrite)
      throw Error(ErrorKind::io, {.path = options_.file.string()},
                  "is of another run: of other weights, another text, other options or another release",
                  "remove it, give --overwrite, or run what it was begun with");
    if (options_.say) options_.say(options_.file.string() + " is of another run (--overwrite: begins anew)");
    left_.reset();
    return std::nullopt;
  }
  if (!finished) return std::nullopt;  // take_up() takes it
  if (options_.say && taken_ == 0)
    options_.say("goes on from " + options_.file.string() + ": " + plural(left_->finished.size(), "sweep") + " done");
  ++taken_;
  return sweep.results = std::move(found.numbers);
}

int SweepJournal::take_up(std::span<Forward* const> models, std::size_t each, std::vector<double>& found) {
  if (!left_) return 0;
  const formats::SweepState state = std::move(*left_);
  left_.reset();
  const formats::SweepState::Begun& begun = state.begun.value();
  int most = 0;
  for (const Forward* model : models) most = std::max(most, model->config().n_layers);
  if (begun.layers > most || begun.hidden.size() != models.size() ||
      begun.sweep.numbers.size() != each * static_cast<std::size_t>(begun.layers))
    throw Error(ErrorKind::bad_input, {.path = options_.file.string()},
                plural(static_cast<std::uint64_t>(begun.layers), "layer") + " of " +
                    plural(begun.hidden.size(), "model") + " with " + plural(begun.sweep.numbers.size(), "number") +
                    ", at most " + std::to_string(most) + " of " + std::to_string(models.size()) + " with " +
                    std::to_string(each) + " each were expected",
                "remove it: the run then starts anew");
  for (std::size_t i = 0; i < models.size(); ++i)
    state.read_hidden(
        i, {models[i]->row(0), models[i]->rows(), std::size_t(models[i]->config().d_model), models[i]->stride()});
  found = begun.sweep.numbers;
  if (options_.say)
    options_.say("goes on from " + options_.file.string() + ": layer " + std::to_string(begun.layers) + " of " +
                 std::to_string(most) + " done");
  return begun.layers;
}

bool SweepJournal::due() const { return std::chrono::steady_clock::now() - written_ >= options_.every; }

void SweepJournal::write(int layers, std::span<const formats::HiddenRows<const float>> hidden,
                         const std::vector<double>* found) {
  std::vector<formats::SweepNumbers> finished;
  for (Sweep& sweep : sweeps_)
    if (sweep.results) finished.push_back({key_of(sweep), *sweep.results});
  if (found) {
    const formats::SweepNumbers sweep{key_of(sweeps_.back()), *found};
    const formats::BegunSweep begun{sweep, layers, hidden};
    formats::write_sweep_state(options_.file, finished, &begun, {});
  } else {
    formats::write_sweep_state(options_.file, finished, nullptr, {});
  }
  written_ = std::chrono::steady_clock::now();
}

void SweepJournal::keep(int layers, std::span<Forward* const> models, const std::vector<double>& found) {
  if (!due()) return;
  std::vector<formats::HiddenRows<const float>> hidden;
  for (const Forward* model : models)
    hidden.push_back({model->row(0), model->rows(), std::size_t(model->config().d_model), model->stride()});
  write(layers, hidden, &found);
}

void SweepJournal::finish(std::vector<double> results) {
  sweeps_.back().results = std::move(results);
  if (due()) write(0, {}, nullptr);
}

void SweepJournal::remove() {
  std::error_code ignored;
  if (!sweeps_.empty()) std::filesystem::remove(options_.file, ignored);
}

}  // namespace ropewalk::verify
