#include "verify/device_sweep.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <optional>

#include "lib/error.h"
#include "verify/cuda/attention_args.h"
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

/// What a sweep gives: statistics of every row, and of pairs the sums of distances after every layer, by window.
struct SweepResult {
  std::vector<HeadRow> rows;
  std::vector<std::vector<double>> layer_sums;  // [layer][window]
};
/// Sees a tile of logits while it is on a device: rows [first_row, ...) of its part, columns [first_column, ...).
using SeeLogits =
    std::function<void(std::size_t device, std::size_t first_row, std::size_t first_column, const DeviceMatrix&)>;

/// One device's part of a sweep.
struct Part {
  std::size_t device;
  std::vector<Window> windows;
};

/// The sweep of one model or two over the windows of one device.
class Sweep {
 public:
  Sweep(Accelerator& device, std::span<DeviceModel> models, const Part& part, DeviceGroup& group, int threads,
        const DeviceTuning& tuning)
      : device_(device), group_(group), part_(part), models_(models), workers_(threads), next_(next_ids(part.windows)) {
    const std::span<const Window> windows = part.windows;
    plan_ = plan_device(models_, windows, device.limit_bytes(), device.held_bytes(), tuning);
    shared_.emplace(device, models_, windows, plan_);
    begin_ = device.event();
    for (DeviceModel& m : models_)
      forwards_.push_back(std::make_unique<DeviceForward>(m, windows, plan_, tuning, workers_, *shared_, part.device));
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
    out.device = device_.name(), out.attention = device_.attention_name();
    out.precision.clear();
    out.weight_bytes = 0, out.first_wait_seconds = out.wait_seconds = 0;
    out.kv_groups = 1;
    for (std::size_t m = 0; m < models_.size(); ++m) {
      out.precision +=
          (m > 0 && models_[m].type == models_[0].type) ? "" : (m > 0 ? ", " : "") + type_name(models_[m].type);
      out.weight_bytes += models_[m].pieces.total_bytes;
      out.first_wait_seconds += forwards_[m]->first_wait_seconds();
      out.wait_seconds += forwards_[m]->other_wait_seconds();
    }
    out.slots = plan_.slots, out.chunk_rows = plan_.chunk_rows, out.spilled = plan_.spilled,
    out.device_bytes = plan_.bytes;
    for (const DeviceModel& m : models_)
      out.kv_groups = std::max(out.kv_groups, head_groups(m.model->config, plan_.kv_groups).size());
    out.head_pieces = plan_.head_pieces(std::size_t(models_[0].model->config.n_vocab));
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
      group_.finished_layers(part_.device, layer);
      for (const auto& forward : forwards_)
        if (layer < forward->config().n_layers) forward->run_layer(layer);
      if (same_shape) queue_distance(*distances);
      if (same_shape) measured->record(Queue::compute), shared_->last_done = measured.get();
      // While the device is busy with this layer, the next is read.
      for (const auto& forward : forwards_)
        if (layer + 1 < forward->config().n_layers) forward->feed(layer + 1);
      if (same_shape) result.layer_sums.push_back(distance_sums(*distances));
    }
    device_.synchronize();
    group_.finished_layers(part_.device, layers);
  }

  void queue_distance(const Accelerator::Memory& distances) {
    for (std::size_t first = 0; first < next_.size(); first += plan_.chunk_rows) {
      const std::size_t rows = std::min(plan_.chunk_rows, next_.size() - first);
      const DeviceMatrix a = forwards_[0]->residual(first, rows, 0), b = forwards_[1]->residual(first, rows, 1);
      device_.distance(a, b, distances.as<double>(first * sizeof(double), rows));
      forwards_[0]->done_with(0), forwards_[1]->done_with(1);
    }
  }
  std::vector<double> distance_sums(const Accelerator::Memory& distances) {
    std::vector<double> rows(next_.size());
    device_.copy_to_host(distances.bytes().subspan(0, rows.size() * sizeof(double)),
                         std::as_writable_bytes(std::span(rows)), Queue::compute);
    device_.synchronize();
    return window_sums(rows, part_.windows);
  }

  void run_head(SweepResult& result, const SeeLogits& see) {
    const std::size_t n_rows = next_.size();
    for (const auto& forward : forwards_) forward->drop_layers();
    for (const auto& forward : forwards_) forward->make_head_room();
    const auto statistics = device_.allocate("statistics", n_rows * sizeof(HeadRow)),
               next = device_.allocate("next tokens", n_rows * sizeof(std::int32_t));
    device_.copy_to_device(std::as_bytes(std::span(next_)), next->bytes(), Queue::compute);
    const std::size_t n_vocab = std::size_t(models_[0].model->config.n_vocab),
                      chunk = std::min(plan_.head_rows, n_rows);
    std::vector<std::unique_ptr<Accelerator::Memory>> logits;
    for (std::size_t m = 0; m < models_.size(); ++m)
      logits.push_back(device_.allocate("logits of a chunk", chunk * kHeadTile * sizeof(float)));
    const auto piece_rows = [&](std::size_t begin, std::size_t end, std::size_t first, std::size_t rows) {
      DeviceMatrix both[2];
      for (std::size_t m = 0; m < models_.size(); ++m) forwards_[m]->begin_head_rows(first, rows, m);
      for (std::size_t column = begin; column < end; column += kHeadTile) {
        for (std::size_t m = 0; m < models_.size(); ++m) {
          both[m] = {logits[m]->bytes().data, ElementType::f32, rows, std::min(kHeadTile, end - column), kHeadTile};
          forwards_[m]->head_tile(column / kHeadTile, both[m]);
        }
        device_.head_statistics(both[0], both[1], column,
                                next->as<const std::int32_t>(first * sizeof(std::int32_t), rows),
                                statistics->as<HeadRow>(first * sizeof(HeadRow), rows));
        if (see) see(part_.device, first, column, both[0]);
      }
    };
    // Tile by tile, not piece by piece: the order is the same on all devices.
    const auto feed_columns = [&](std::size_t begin, std::size_t end) {
      for (std::size_t column = begin; column < end; column += kHeadTile)
        for (const auto& forward : forwards_) forward->feed_tile(column / kHeadTile);
    };
    feed_columns(0, std::min(plan_.head_columns, n_vocab));
    for (std::size_t piece = 0, column = 0; column < n_vocab; ++piece, column += plan_.head_columns) {
      const std::size_t end = std::min(column + plan_.head_columns, n_vocab);
      for (const auto& forward : forwards_) forward->begin_head(piece);
      for (std::size_t first = 0; first < n_rows; first += chunk) {
        group_.stop_if_failed();
        piece_rows(column, end, first, std::min(chunk, n_rows - first));
      }
      for (const auto& forward : forwards_) forward->end_head(piece);
      // While the device is busy with this piece, the next is read.
      feed_columns(end, std::min(end + plan_.head_columns, n_vocab));
    }
    result.rows.resize(n_rows);
    device_.copy_to_host(statistics->bytes().subspan(0, n_rows * sizeof(HeadRow)),
                         std::as_writable_bytes(std::span(result.rows)), Queue::compute);
    device_.synchronize();
  }

  Accelerator& device_;
  DeviceGroup& group_;
  const Part& part_;
  std::span<DeviceModel> models_;
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

/// The models of a sweep, their weights cut into pieces that cross to all devices.
std::vector<DeviceModel> models_for(std::initializer_list<const Checkpoint*> models, Precision precision,
                                    const Devices& devices, std::size_t takers, const SweepOptions& options,
                                    const DeviceTuning& tuning) {
  std::vector<DeviceModel> out;
  for (const Checkpoint* model : models) {
    DeviceModel& m = out.emplace_back(DeviceModel{model, type_for(*model, precision)});
    m.weights = plan_device_weights(*model, m.type);
    const std::optional<DType> rounded = rounded_to(m.type);
    const bool is_known = rounded && options.known && options.known->find(*model, *rounded);
    m.pieces = cut_weights(m.weights, m.type, devices[0], tuning.piece_bytes, options.report && !is_known);
    m.stream = std::make_unique<WeightStream>(m.pieces.stream, tuning.readers, takers);
  }
  return out;
}

/// A device's place among those that weights cross to, until its part is over, however it ends.
class Taking {
 public:
  Taking(std::span<DeviceModel> models, std::size_t taker) : models_(models), taker_(taker) {}
  Taking(const Taking&) = delete;
  Taking& operator=(const Taking&) = delete;
  ~Taking() {
    for (DeviceModel& m : models_) m.stream->leave(taker_);
  }

 private:
  std::span<DeviceModel> models_;
  std::size_t taker_;
};

/// What the sweep's rounding of the models' weights was, measured now or before.
std::vector<WeightRounding> roundings_of(std::span<const DeviceModel> models, KnownRounding* known) {
  std::vector<WeightRounding> out;
  for (const DeviceModel& m : models) {
    const std::optional<DType> rounded = rounded_to(m.type);
    const auto before = known && rounded ? known->find(*m.model, *rounded) : std::nullopt;
    out.push_back(before ? *before : m.pieces.rounding());
    if (known && rounded && !before) known->add(*m.model, *rounded, out.back());
  }
  return out;
}

/// assign_windows() of these.
std::vector<std::vector<std::size_t>> assigned_windows(const ModelConfig& config, std::span<const Window> windows,
                                                       const Devices& devices) {
  std::vector<std::size_t> lengths;
  for (const Window& window : windows) lengths.push_back(window.size());
  return assign_windows(config, lengths, devices.size());
}

std::vector<Part> parts_of(std::span<const Window> windows, std::span<const std::vector<std::size_t>> assigned) {
  std::vector<Part> parts;
  for (const std::vector<std::size_t>& own : assigned) {
    Part& part = parts.emplace_back(Part{parts.size(), {}});
    for (const std::size_t window : own) part.windows.push_back(windows[window]);
  }
  return parts;
}

/// Results of the parts in the order of `windows`.
SweepResult gathered(std::vector<SweepResult> parts, std::span<const Window> windows,
                     std::span<const std::vector<std::size_t>> assigned) {
  if (parts.size() == 1) return std::move(parts.front());
  std::vector<std::size_t> first_row(windows.size());
  std::size_t rows = 0;
  for (std::size_t window = 0; window < windows.size(); ++window)
    first_row[window] = rows, rows += windows[window].size();
  SweepResult out;
  out.rows.resize(rows);
  out.layer_sums.assign(parts.front().layer_sums.size(), std::vector<double>(windows.size()));
  for (std::size_t part = 0; part < parts.size(); ++part) {
    auto from = parts[part].rows.begin();
    for (std::size_t place = 0; place < assigned[part].size(); ++place) {
      const std::size_t window = assigned[part][place];
      const auto end = from + static_cast<std::ptrdiff_t>(windows[window].size());
      std::copy(from, end, out.rows.begin() + static_cast<std::ptrdiff_t>(first_row[window]));
      from = end;
      for (std::size_t layer = 0; layer < out.layer_sums.size(); ++layer)
        out.layer_sums[layer][window] = parts[part].layer_sums[layer][place];
    }
  }
  return out;
}

/// "2 x NVIDIA H200, cuBLASLt 13.0.2", or all names where they differ.
std::string names_of(std::span<const SweepReport> parts) {
  const bool same =
      std::ranges::all_of(parts, [&](const SweepReport& one) { return one.device == parts.front().device; });
  if (same) return (parts.size() > 1 ? std::to_string(parts.size()) + " x " : "") + parts.front().device;
  std::string out;
  for (const SweepReport& one : parts) out += (out.empty() ? "" : "; ") + one.device;
  return out;
}

/// "cuDNN 9.19.0; own attention": each once, in order of the devices.
std::string attentions_of(std::span<const SweepReport> parts) {
  std::string out;
  for (std::size_t part = 0; part < parts.size(); ++part)
    if (std::ranges::none_of(parts.first(part),
                             [&](const SweepReport& one) { return one.attention == parts[part].attention; }))
      out += (out.empty() ? "" : "; ") + parts[part].attention;
  return out;
}

SweepReport joined(std::span<const SweepReport> parts) {
  SweepReport out = parts.front();
  out.device = names_of(parts), out.attention = attentions_of(parts);
  out.devices = parts.size();
  for (const SweepReport& one : parts.subspan(1)) {
    out.first_wait_seconds = std::max(out.first_wait_seconds, one.first_wait_seconds);
    out.wait_seconds = std::max(out.wait_seconds, one.wait_seconds);
    out.weight_bytes += one.weight_bytes;
    out.device_bytes = std::max(out.device_bytes, one.device_bytes);
    out.slots = std::min(out.slots, one.slots), out.chunk_rows = std::min(out.chunk_rows, one.chunk_rows);
    out.spilled = out.spilled || one.spilled;
    out.head_pieces = std::max(out.head_pieces, one.head_pieces);
    out.kv_groups = std::max(out.kv_groups, one.kv_groups);
  }
  return out;
}

void check_heads(const Checkpoint& model) {
  if (model.config.head_dim > int(kMaxDeviceHeadDim))
    throw Error(ErrorKind::unsupported, {model.label},
                "a head has " + std::to_string(model.config.head_dim) + " channels; a device takes " +
                    std::to_string(kMaxDeviceHeadDim) + " at most",
                "use --device cpu");
}

/// The sweep; under `automatic` once more in bf16 where f16 did not hold the activations.
SweepResult sweep(const Devices& devices, std::initializer_list<const Checkpoint*> models,
                  std::span<const Window> windows, const SweepOptions& options, const DeviceTuning& tuning,
                  const SeeLogits& see) {
  const auto start = std::chrono::steady_clock::now();
  const Precision wanted = options.device ? options.device->precision : Precision::automatic;
  const auto seconds = [&] { return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count(); };
  for (const Checkpoint* model : models) check_config(*model), check_heads(*model), check_ids(*model, windows);
  if (next_ids(windows).empty()) return {};
  const auto assigned = assigned_windows((*models.begin())->config, windows, devices);
  const std::vector<Part> parts = parts_of(windows, assigned);

  bool has_f16 = false;
  const auto once = [&](Precision precision, const char* note) {
    std::vector<DeviceModel> on_device = models_for(models, precision, devices, parts.size(), options, tuning);
    for (const DeviceModel& m : on_device) has_f16 = has_f16 || m.type == ElementType::f16;
    std::vector<SweepResult> results(parts.size());
    std::vector<SweepReport> reports(parts.size());
    DeviceGroup group(parts.size(), options.progress);
    group.run(devices, [&](std::size_t device) {
      const Taking taking(on_device, device);
      Sweep one(devices[device], on_device, parts[device], group, options.threads, tuning);
      results[device] = one.run(see);
      one.report(reports[device]);
    });
    if (options.report) {
      *options.report = joined(reports), options.report->seconds = seconds(), options.report->note = note;
      options.report->rounding = roundings_of(on_device, options.known);
    }
    return gathered(std::move(results), windows, assigned);
  };
  SweepResult result = once(wanted, "");
  if (has_f16 &&
      std::ranges::any_of(result.rows, [&](const HeadRow& row) { return is_broken(row, models.size() == 2); }))
    result = once(Precision::bf16, "activations do not fit f16: computed again in bf16");
  return result;
}

}  // namespace

std::vector<std::vector<TokenScore>> device_score(const Devices& devices, const Checkpoint& model,
                                                  std::span<const Window> windows, const SweepOptions& options,
                                                  const DeviceTuning& tuning) {
  return token_scores(sweep(devices, {&model}, windows, options, tuning, {}).rows, windows);
}

std::vector<EndedScore> device_score_endings(const Devices& devices, const Checkpoint& model,
                                             std::span<const Window> windows,
                                             std::span<const std::vector<std::int32_t>> endings,
                                             const SweepOptions& options, const DeviceTuning& tuning) {
  struct Own {  // of one device
    std::vector<Window> windows;
    std::vector<std::vector<std::int32_t>> endings;
  };
  const auto assigned = assigned_windows(model.config, windows, devices);
  std::vector<Own> owns(assigned.size());
  std::vector<EndingLogits> logits;
  for (std::size_t device = 0; device < assigned.size(); ++device) {
    for (const std::size_t window : assigned[device])
      owns[device].windows.push_back(windows[window]), owns[device].endings.push_back(endings[window]);
    logits.emplace_back(owns[device].windows, owns[device].endings);
  }
  const auto keep = [&](std::size_t device, std::size_t first, std::size_t column, const DeviceMatrix& tile) {
    logits[device].take_from(first, tile.rows, column, tile.width, [&](std::size_t row, std::size_t at, float& place) {
      const DeviceMatrix one = tile.row_range(row, 1).columns(at, 1);
      devices[device].copy_to_host({one.data, sizeof(float)}, std::as_writable_bytes(std::span(&place, 1)),
                                   Queue::compute);
    });
  };
  const SweepResult result = sweep(devices, {&model}, windows, options, tuning, keep);
  std::vector<std::vector<float>> all(windows.size());
  for (std::size_t device = 0; device < assigned.size(); ++device)
    for (std::size_t place = 0; place < assigned[device].size(); ++place)
      all[assigned[device][place]] = logits[device].by_window()[place];
  return ended_scores(result.rows, windows, all);
}

LogitsResult device_logits(const Devices& devices, const Checkpoint& model, const Window& window, int last,
                           const SweepOptions& options, const DeviceTuning& tuning) {
  const auto n_vocab = std::size_t(model.config.n_vocab);
  const std::size_t skipped = rows_before_last(window.size(), last);
  Accelerator& device = devices[0];
  LogitsResult out;
  out.logits.resize((window.size() - skipped) * n_vocab);
  std::vector<float> tile;
  const auto keep = [&](std::size_t, std::size_t first, std::size_t column, const DeviceMatrix& logits) {
    const std::size_t from = std::max(first, skipped);
    if (from >= first + logits.rows) return;
    const DeviceMatrix wanted = logits.row_range(from - first, first + logits.rows - from);
    tile.resize((wanted.rows - 1) * wanted.stride + wanted.width);
    device.copy_to_host({wanted.data, tile.size() * sizeof(float)}, std::as_writable_bytes(std::span(tile)),
                        Queue::compute);
    device.synchronize();
    for (std::size_t row = 0; row < wanted.rows; ++row)
      std::copy_n(tile.data() + row * wanted.stride, wanted.width,
                  out.logits.data() + (from - skipped + row) * n_vocab + column);
  };
  const std::span<const Window> windows(&window, 1);
  const SweepResult result = sweep(device, {&model}, windows, options, tuning, keep);
  const std::vector<std::vector<TokenScore>> scores = token_scores(result.rows, windows);
  for (const TokenScore& score : scores.front()) out.nll.push_back(score.nll);
  return out;
}

PairResult device_compare(const Devices& devices, const Checkpoint& a, const Checkpoint& b,
                          std::span<const Window> windows, const SweepOptions& options, const DeviceTuning& tuning) {
  const SweepResult result = sweep(devices, {&a, &b}, windows, options, tuning, {});
  PairResult out{pair_scores(result.rows, windows), {}};
  for (const std::vector<double>& sums : result.layer_sums) out.layer_distance.push_back(mean_of(sums, windows));
  return out;
}

}  // namespace ropewalk::verify
