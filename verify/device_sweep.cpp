#include "verify/device_sweep.h"

#include <chrono>
#include <cmath>
#include <optional>

#include "lib/error.h"
#include "verify/cuda/head_tile.h"
#include "verify/forward.h"
#include "verify/model_weights.h"
#include "verify/scores.h"

namespace ropewalk::verify {
namespace {

using Queue = Accelerator::Queue;

std::string type_name(ElementType type) {
  return type == ElementType::f32 ? "f32" : type == ElementType::bf16 ? "bf16" : "f16";
}

/// Logits that f16 could not hold on their way, or weights that no element type could.
bool is_broken(const HeadRow& row, bool pair) {
  return !std::isfinite(row.statistics.a.log_sum_exp()) || (pair && !std::isfinite(row.statistics.b.log_sum_exp()));
}

/// What a sweep gives: statistics of every row, and of pairs the distance after every layer.
struct SweepResult {
  std::vector<HeadRow> rows;
  std::vector<double> layer_distance;
};
/// Sees a chunk of logits while it is on the device: (first row, rows, logits).
using SeeLogits = std::function<void(std::size_t, std::size_t, const DeviceMatrix&)>;

/// One sweep of one model or two.
class Sweep {
 public:
  Sweep(Accelerator& device, std::vector<DeviceModel> models, std::span<const Window> windows,
        const SweepOptions& options, const DeviceTuning& tuning)
      : device_(device),
        options_(options),
        models_(std::move(models)),
        windows_(windows),
        workers_(options.threads),
        next_(next_ids(windows)) {
    for (DeviceModel& m : models_) {
      m.weights = plan_device_weights(*m.model, m.type);
      m.pieces = cut_weights(m.weights, device, tuning.piece_bytes);
    }
    plan_ = plan_device(models_, windows, device.limit_bytes(), tuning);
    shared_.emplace(device, models_, windows, plan_);
    begin_ = device.event();
    for (const DeviceModel& m : models_)
      forwards_.push_back(std::make_unique<DeviceForward>(m, windows, plan_, tuning, workers_, *shared_));
  }

  SweepResult run(const SeeLogits& see) {
    SweepResult result;
    begin_->record(Queue::compute);
    shared_->last_done = begin_.get();
    run_layers(result);
    run_head(result, see);
    return result;
  }

  void report(SweepReport& out) const {
    out.device = device_.name();
    out.precision.clear();
    out.weight_bytes = 0, out.first_wait_seconds = out.wait_seconds = 0;
    for (std::size_t m = 0; m < models_.size(); ++m) {
      out.precision +=
          (m > 0 && models_[m].type == models_[0].type) ? "" : (m > 0 ? ", " : "") + type_name(models_[m].type);
      out.weight_bytes += models_[m].pieces.total_bytes;
      out.first_wait_seconds += forwards_[m]->first_wait_seconds();
      out.wait_seconds += forwards_[m]->other_wait_seconds();
    }
    out.slots = plan_.slots, out.chunk_rows = plan_.chunk_rows, out.spilled = plan_.spilled,
    out.device_bytes = plan_.bytes;
  }

 private:
  void run_layers(SweepResult& result) {
    int layers = 0;
    bool same_shape = models_.size() == 2;
    for (const DeviceModel& m : models_) {
      layers = std::max(layers, m.model->config.n_layers);
      same_shape = same_shape && m.model->config.n_layers == models_[0].model->config.n_layers &&
                   m.model->config.d_model == models_[0].model->config.d_model;
    }
    const auto distances = same_shape ? device_.allocate("distances", next_.size() * sizeof(double)) : nullptr;
    const auto measured = same_shape ? device_.event() : nullptr;
    for (int layer = 0; layer < layers; ++layer) {
      if (options_.progress) options_.progress(layer);
      for (const auto& forward : forwards_)
        if (layer < forward->config().n_layers) forward->run_layer(layer);
      if (same_shape) queue_distance(*distances);
      if (same_shape) measured->record(Queue::compute), shared_->last_done = measured.get();
      // While the device is busy with this layer, the next is read.
      for (const auto& forward : forwards_)
        if (layer + 1 < forward->config().n_layers) forward->feed(layer + 1);
      if (same_shape) result.layer_distance.push_back(mean_distance(*distances));
    }
    device_.synchronize();
    if (options_.progress) options_.progress(layers);
  }

  void queue_distance(const Accelerator::Memory& distances) {
    for (std::size_t first = 0; first < next_.size(); first += plan_.chunk_rows) {
      const std::size_t rows = std::min(plan_.chunk_rows, next_.size() - first);
      const DeviceMatrix a = forwards_[0]->residual(first, rows), b = forwards_[1]->residual(first, rows, rows);
      device_.distance(a, b, distances.as<double>(first * sizeof(double), rows));
    }
  }
  double mean_distance(const Accelerator::Memory& distances) {
    std::vector<double> rows(next_.size());
    device_.copy_to_host(distances.bytes().subspan(0, rows.size() * sizeof(double)),
                         std::as_writable_bytes(std::span(rows)), Queue::compute);
    device_.synchronize();
    return mean_of(rows);
  }

  void run_head(SweepResult& result, const SeeLogits& see) {
    const std::size_t n_rows = next_.size();
    for (const auto& forward : forwards_) forward->drop_layers();
    for (const auto& forward : forwards_) forward->load_head();
    const auto statistics = device_.allocate("statistics", n_rows * sizeof(HeadRow)),
               next = device_.allocate("next tokens", n_rows * sizeof(std::int32_t));
    device_.copy_to_device(std::as_bytes(std::span(next_)), next->bytes(), Queue::compute);
    const std::size_t n_vocab = std::size_t(models_[0].model->config.n_vocab),
                      chunk = std::min(plan_.head_rows, n_rows);
    std::vector<std::unique_ptr<Accelerator::Memory>> logits;
    for (std::size_t m = 0; m < models_.size(); ++m)
      logits.push_back(device_.allocate("logits of a chunk", chunk * n_vocab * sizeof(float)));
    for (std::size_t first = 0; first < n_rows; first += chunk) {
      const std::size_t rows = std::min(chunk, n_rows - first);
      DeviceMatrix both[2];
      for (std::size_t m = 0; m < models_.size(); ++m) {
        both[m] = {logits[m]->bytes().data, ElementType::f32, rows, n_vocab, n_vocab};
        forwards_[m]->head(first, rows, both[m]);
      }
      device_.head_statistics(both[0], both[1], next->as<const std::int32_t>(first * sizeof(std::int32_t), rows),
                              statistics->as<HeadRow>(first * sizeof(HeadRow), rows));
      if (see) see(first, rows, both[0]);
    }
    result.rows.resize(n_rows);
    device_.copy_to_host(statistics->bytes().subspan(0, n_rows * sizeof(HeadRow)),
                         std::as_writable_bytes(std::span(result.rows)), Queue::compute);
    device_.synchronize();
  }

  Accelerator& device_;
  const SweepOptions& options_;
  std::vector<DeviceModel> models_;
  std::span<const Window> windows_;
  Workers workers_;
  std::vector<std::int32_t> next_;
  DevicePlan plan_{};
  std::optional<DeviceActivations> shared_;
  std::unique_ptr<Accelerator::Event> begin_;
  std::vector<std::unique_ptr<DeviceForward>> forwards_;
};

ElementType type_for(const Checkpoint& model, Precision precision) {
  return precision == Precision::f32    ? ElementType::f32
         : precision == Precision::bf16 ? ElementType::bf16
                                        : natural_type(model);
}

/// The sweep; under `automatic` once more in bf16 where f16 did not hold the activations.
SweepResult sweep(Accelerator& device, std::initializer_list<const Checkpoint*> models, std::span<const Window> windows,
                  const SweepOptions& options, const DeviceTuning& tuning, const SeeLogits& see) {
  const auto start = std::chrono::steady_clock::now();
  const Precision wanted = options.device ? options.device->precision : Precision::automatic;
  const auto seconds = [&] { return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count(); };
  bool has_f16 = false;
  const auto once = [&](Precision precision, const char* note) {
    std::vector<DeviceModel> on_device;
    for (const Checkpoint* model : models) {
      on_device.push_back({model, type_for(*model, precision)});
      has_f16 = has_f16 || on_device.back().type == ElementType::f16;
    }
    Sweep one(device, std::move(on_device), windows, options, tuning);
    SweepResult result = one.run(see);
    if (options.report) one.report(*options.report), options.report->seconds = seconds(), options.report->note = note;
    return result;
  };
  for (const Checkpoint* model : models) check_config(*model), check_ids(*model, windows);
  if (next_ids(windows).empty()) return {};
  SweepResult result = once(wanted, "");
  if (has_f16 &&
      std::ranges::any_of(result.rows, [&](const HeadRow& row) { return is_broken(row, models.size() == 2); }))
    result = once(Precision::bf16, "activations do not fit f16: computed again in bf16");
  return result;
}

}  // namespace

std::vector<std::vector<TokenScore>> device_score(Accelerator& device, const Checkpoint& model,
                                                  std::span<const Window> windows, const SweepOptions& options,
                                                  const DeviceTuning& tuning) {
  return token_scores(sweep(device, {&model}, windows, options, tuning, {}).rows, windows);
}

LogitsResult device_logits(Accelerator& device, const Checkpoint& model, const Window& window, int last,
                           const SweepOptions& options, const DeviceTuning& tuning) {
  const auto n_vocab = std::size_t(model.config.n_vocab);
  const std::size_t skipped = rows_before_last(window.size(), last);
  LogitsResult out;
  out.logits.resize((window.size() - skipped) * n_vocab);
  const auto keep = [&](std::size_t first, std::size_t rows, const DeviceMatrix& logits) {
    const std::size_t from = std::max(first, skipped);
    if (from >= first + rows) return;
    const std::size_t count = (first + rows - from) * n_vocab;
    device.copy_to_host({logits.row_range(from - first, 1).data, count * sizeof(float)},
                        std::as_writable_bytes(std::span(out.logits))
                            .subspan((from - skipped) * n_vocab * sizeof(float), count * sizeof(float)),
                        Queue::compute);
  };
  const std::span<const Window> windows(&window, 1);
  const SweepResult result = sweep(device, {&model}, windows, options, tuning, keep);
  const std::vector<std::vector<TokenScore>> scores = token_scores(result.rows, windows);
  for (const TokenScore& score : scores.front()) out.nll.push_back(score.nll);
  return out;
}

PairResult device_compare(Accelerator& device, const Checkpoint& a, const Checkpoint& b,
                          std::span<const Window> windows, const SweepOptions& options, const DeviceTuning& tuning) {
  SweepResult result = sweep(device, {&a, &b}, windows, options, tuning, {});
  return {pair_scores(result.rows, windows), std::move(result.layer_distance)};
}

}  // namespace ropewalk::verify
