#include "verify/sweep_cost.h"

#include <algorithm>
#include <chrono>
#include <numeric>
#include <vector>

#include "verify/attention.h"
#include "verify/forward.h"

namespace ropewalk::verify {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_of(const auto& work) {
  const Clock::time_point start = Clock::now();
  work();
  return std::chrono::duration<double>(Clock::now() - start).count();
}

/// Elements of all matrices of layer `layer`.
double matrix_elements(const Checkpoint& model, int layer) {
  const std::string prefix = "model.layers." + std::to_string(layer) + ".";
  double elements = 0;
  for (const TensorPtr& tensor : model.tensors)
    if (tensor->name().starts_with(prefix) && tensor->info().shape.size() == 2)
      elements += double(tensor->info().elements());
  return elements;
}

/// Keys that all queries of a window see together.
double keys_seen(std::size_t length, std::optional<int> sliding_window) {
  const double n = double(length), window = sliding_window ? std::min(double(*sliding_window), n) : n;
  return window * (window + 1) / 2 + (n - window) * window;
}

/// Operations per second of the attention of one head, a copy on every thread.
double attention_rate(const ModelConfig& config, const Workers& workers) {
  constexpr std::size_t kKeys = 4096, kRows = kQueryTile;
  const auto head_dim = std::size_t(config.head_dim);
  const auto threads = std::size_t(workers.threads());
  KvCache cache;
  cache.reserve(1, head_dim, kKeys);
  std::vector<std::vector<float>> queries(threads, std::vector<float>(kRows * head_dim, 0.1f));
  const auto run = [&] {
    workers.for_each(threads, [&](std::size_t i, std::size_t) {
      attention(cache, {.q = queries[i].data(),
                        .out = queries[i].data(),
                        .stride = head_dim,
                        .rows = kRows,
                        .first_position = kKeys - kRows,
                        .kv_head = 0,
                        .scale = 1.0f,
                        .sliding_window = std::nullopt});
    });
  };
  run();  // pages and caches
  const double least = std::min(seconds_of(run), seconds_of(run));
  return 4.0 * double(kRows) * double(kKeys) * double(head_dim) * double(threads) / std::max(least, 1e-9);
}

}  // namespace

SweepOperations sweep_operations(const Checkpoint& model, std::span<const std::size_t> lengths) {
  const ModelConfig& config = model.config;
  const double tokens = double(std::accumulate(lengths.begin(), lengths.end(), std::size_t{0}));
  SweepOperations out;
  double keys = 0;
  for (const std::size_t length : lengths) keys += keys_seen(length, config.sliding_window);
  for (int layer = 0; layer < config.n_layers; ++layer) out.linear += 2 * tokens * matrix_elements(model, layer);
  out.attention = 4.0 * keys * double(config.n_heads) * double(config.head_dim) * double(config.n_layers);
  out.head = 2 * tokens * double(config.n_vocab) * double(config.d_model);
  return out;
}

MeasuredRates measure_rates(const Checkpoint& model, int threads) {
  const Workers workers(threads);
  MeasuredRates rates;
  rates.attention = attention_rate(model.config, workers);
  // Two lengths tell what each token costs from what the layer costs once. Attention over so few keys is nothing beside
  // either.
  constexpr std::size_t kFew = 48, kMany = 384;
  const auto layer_seconds = [&](std::size_t tokens) {
    const std::vector<Window> windows = {Window(tokens, 0)};
    Forward forward(model, windows, workers);
    return seconds_of([&] { forward.run_layer(0); });
  };
  layer_seconds(kFew);  // the first reading waits for the disk
  const double few = std::min(layer_seconds(kFew), layer_seconds(kFew)), many = layer_seconds(kMany);
  const double each = std::max((many - few) / double(kMany - kFew), many / double(kMany) / 16);
  rates.linear = 2 * matrix_elements(model, 0) / std::max(each, 1e-12);
  rates.read_seconds = std::max(0.0, few - double(kFew) * each);
  return rates;
}

double sweep_seconds(const Checkpoint& model, std::span<const std::size_t> lengths, const MeasuredRates& rates) {
  const SweepOperations operations = sweep_operations(model, lengths);
  return (operations.linear + operations.head) / rates.linear + operations.attention / rates.attention +
         model.config.n_layers * rates.read_seconds;
}

}  // namespace ropewalk::verify
