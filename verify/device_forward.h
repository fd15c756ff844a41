#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "verify/accelerator.h"
#include "verify/batch.h"
#include "verify/device_weights.h"
#include "verify/rotary.h"
#include "verify/sweep.h"
#include "verify/weight_stream.h"
#include "verify/workers.h"

namespace ropewalk::verify {

/// Sizes that no bit of a result depends on; tests make them small.
struct DeviceTuning {
  std::size_t chunk_rows = kChunkRows, head_rows = 1024;  // at most
  std::size_t head_columns = 0;  // of the vocabulary on the device at most, in whole tiles; 0: as many as fit
  std::size_t kv_groups = 1;     // in which heads of keys and values take turns at least
  std::uint64_t piece_bytes = std::uint64_t{16} << 20;
  std::size_t ring = 8;   // pinned buffers of a piece's size; at least 2
  std::size_t slots = 0;  // layers of weights on the device at most; 0: as many as fit, never fewer than 2
  int readers = 4;
};

/// A model and what it is computed in.
struct DeviceModel {
  const Checkpoint* model;
  ElementType type;  // f32: --precision f32
  std::vector<DeviceWeights> weights = {};
  WeightPieces pieces = {};
  std::vector<std::unique_ptr<Accelerator::Memory>> ring = {};
  std::unique_ptr<WeightStream> stream = {};  // to all devices of the sweep; its threads stop before the ring goes
};

/// How a sweep of one model, or two side by side, uses a device's memory.
struct DevicePlan {
  std::size_t chunk_rows, head_rows, slots;
  std::size_t head_columns;  // of the vocabulary on the device at once, in whole tiles
  std::size_t kv_groups;     // heads of keys and values take turns in so many groups; 1: all at once
  bool spilled;              // residuals live in pinned host memory
  std::uint64_t bytes;       // at most allocated at once

  /// One piece of the head lies there alone, of several two: the next comes while one is computed with.
  std::size_t head_slots(std::size_t n_vocab) const { return head_columns >= n_vocab ? 1 : 2; }
  std::size_t head_pieces(std::size_t n_vocab) const { return (n_vocab + head_columns - 1) / head_columns; }
};
/// Heads of one group: a layer's keys and values are computed, and attended to, for one group after the other, so that
/// only its share of them lies on the device. A head's arithmetic knows nothing of the others: the same bits.
struct HeadGroup {
  std::size_t first_kv, n_kv, first, n;  // heads of keys and values, and the query heads that share them
};
/// At most `groups`, of as many heads of keys and values each, the last of the rest.
std::vector<HeadGroup> head_groups(const ModelConfig& config, std::size_t groups);

/// The fastest that fits `limit`: all heads at once before groups of them, residuals on the device before long chunks,
/// long chunks before more slots, and the head in as few pieces as go beside that.
/// Error(device) of memory_error() if nothing does; `held`: what is taken of the device's cap already.
DevicePlan plan_device(std::span<const DeviceModel> models, std::span<const Window> windows, std::uint64_t limit,
                       std::uint64_t held, const DeviceTuning& tuning);

/// What one model needs while the head is computed, beside what the models share.
struct HeadBytes {
  std::uint64_t tile, slot, normed, terms, thin_terms;  // weights of a tile, of a piece
};
HeadBytes head_bytes(const DeviceModel& model, const DevicePlan& plan, std::size_t rows);
std::uint64_t largest_layer_bytes(const DeviceModel& model);

/// What the models of a sweep share: activations of a chunk, keys and values of a layer.
class DeviceActivations {
 public:
  DeviceActivations(Accelerator& device, std::span<const DeviceModel> models, std::span<const Window> windows,
                    const DevicePlan& plan);

  Accelerator& device;
  // residual: of two chunks, where they are spilled
  std::unique_ptr<Accelerator::Memory> normed, projected, activated, wide, terms, thin, thin_terms, keys, values,
      residual, attended;
  /// Where a chunk of what lives in host memory stands while it is computed with: filled and emptied by Queue::spill,
  /// while compute is at the other.
  struct Place {
    DeviceSpan<std::byte> bytes;
    std::unique_ptr<Accelerator::Event> moved, used;  // by spill; by compute, the last time
  };
  std::array<Place, 2> places;              // residuals
  std::array<Place, 2> attended_places;     // what earlier groups of heads attended to
  Accelerator::Event* last_done = nullptr;  // end of what was last queued to compute
};

/// A model half way through on a device: Forward's (forward.h) twin.
class DeviceForward {
 public:
  /// Reads the embeddings and starts reading weights, which it takes as `taker`. All arguments outlive it.
  DeviceForward(DeviceModel& model, std::span<const Window> windows, const DevicePlan& plan, const DeviceTuning& tuning,
                const Workers& workers, DeviceActivations& shared, std::size_t taker);
  /// Queues the copies of a layer's weights; waits for their bytes, not for the device. In order; run_layer does it where
  /// nobody has. All devices of a sweep feed all models in one order, whatever their plans: they wait for each other.
  void feed(int layer);
  /// Queues a layer.
  void run_layer(int layer);
  /// After the last layer: waits, and gives the slots back. Of several models all drop theirs before any head comes:
  /// that is what the plan counts on.
  void drop_layers();
  /// Makes room for the head, after all have dropped their layers.
  void make_head_room();
  /// Of a tile of the head, as feed().
  void feed_tile(std::size_t tile);
  /// For every piece of the head, in order, when its tiles have been fed: begin_head; for chunks of rows begin_head_rows (`place`: as residual()'s)
  /// and head_tile for the piece's tiles, counted from the head's first, to `logits` [rows, kHeadTile or what is left]
  /// f32; end_head.
  void begin_head(std::size_t piece);
  void begin_head_rows(std::size_t first, std::size_t rows, std::size_t place);
  void head_tile(std::size_t tile, const DeviceMatrix& logits);
  void end_head(std::size_t piece);

  const ModelConfig& config() const noexcept { return model_.model->config; }
  std::size_t rows() const noexcept { return rows_; }
  /// Rows of the residual on the device for what is queued to compute next; where they are spilled, copied to that
  /// place of DeviceActivations, which is taken until done_with().
  DeviceMatrix residual(std::size_t first, std::size_t rows, std::size_t place);
  void done_with(std::size_t place);
  /// Seconds that compute stood still for weights: for the first layer, which nothing can hide, and for all others and
  /// what follows the first piece of the head. After synchronize().
  double first_wait_seconds() const;
  double other_wait_seconds() const;

 private:
  struct Launch;  // windows of one
  void feed_to(std::size_t at, std::byte* slot);
  std::size_t tiles_of_piece() const { return plan_.head_columns / kHeadTile; }
  void use_tile(std::size_t tile);
  void queue_piece(const WeightPiece& piece, std::span<const std::byte> bytes, std::byte* slot,
                   const DeviceWeights& weights);
  void run_group(std::size_t group);
  DeviceMatrix project(const DeviceMatrix& x);
  void attend(const Chunk& chunk, const DeviceMatrix& projected, const HeadGroup& heads, const DeviceMatrix& out);
  void finish_chunk(const DeviceMatrix& attended, const DeviceMatrix& x);
  /// A matrix as a sum of bf16 terms.
  struct Terms {
    DeviceMatrix first;  // the largest; the others follow `elements` apart
    std::size_t count, elements;

    DeviceMatrix term(std::size_t index) const {
      DeviceMatrix out = first;
      out.data += index * elements * sizeof(std::uint16_t);
      return out;
    }
    Terms columns(std::size_t from, std::size_t width) const { return {first.columns(from, width), count, elements}; }
  };
  Terms terms_of(const DeviceMatrix& x, const std::unique_ptr<Accelerator::Memory>& memory, std::size_t count);
  Terms terms_of(const DeviceWeight& weight) const;
  void multiply_terms(const Terms& x, const Terms& w, bool accumulate, const DeviceMatrix& out);
  /// out (+)= x W^T, and what adapters beside it add: then out is f32.
  void linear(const DeviceMatrix& x, std::size_t matrix, bool accumulate, const DeviceMatrix& out);
  /// Without adapters. `terms`: of x, in f32 alone.
  void product(const DeviceMatrix& x, const Terms& terms, const DeviceWeight& w, bool accumulate,
               const DeviceMatrix& out);
  /// out += B of every part, times its columns of `thin`.
  void add_deltas(const Terms& thin, const DeviceWeight& w, const DeviceMatrix& out);
  /// A x of all parts of a matrix in f32, split again for the second product.
  Terms thin_of(const Terms& x, const DeviceWeight& w, const std::unique_ptr<Accelerator::Memory>& terms);
  bool has_delta(std::size_t matrix) const { return !weights_->matrices[matrix].deltas.empty(); }
  DeviceMatrix activation(const std::unique_ptr<Accelerator::Memory>& memory, std::size_t rows,
                          std::size_t width) const;
  DeviceMatrix wide(std::size_t rows, std::size_t width) const;
  DeviceSpan<const float> vector(std::size_t index) const;
  DeviceMatrix vector_row(std::size_t index) const;
  void load_spilled(std::size_t first, std::size_t rows, std::size_t place);
  void store_spilled(std::size_t first, std::size_t rows, std::size_t place);
  /// What a group that is not the last attended to, to host memory; of all those before the last, back.
  void attend_and_store(std::size_t chunk, const DeviceMatrix& projected, std::size_t group);
  void load_attended(std::size_t chunk);
  void take_attended(std::size_t chunk, const DeviceMatrix& out);
  std::size_t first_row(std::size_t chunk) const { return chunks_[chunk].front().first_row; }
  std::size_t row_count(std::size_t chunk) const;
  std::size_t width(const HeadGroup& heads) const { return heads.n * std::size_t(config().head_dim); }
  std::span<std::byte> attended_host(std::size_t group, std::size_t first, std::size_t rows);

  const DeviceModel& model_;
  Accelerator& device_;
  DeviceActivations& shared_;
  const DevicePlan plan_;
  const std::size_t taker_;
  WeightStream& stream_;
  std::vector<std::size_t> lengths_;
  std::vector<Chunk> chunks_;
  std::size_t rows_ = 0, d_model_;
  std::vector<HeadGroup> groups_;
  std::unique_ptr<Accelerator::Memory> residual_;  // of the device, or pinned
  std::unique_ptr<Accelerator::Memory>
      attended_;  // pinned, all groups but the last, one after the other: [rows, width]
  std::vector<std::unique_ptr<Accelerator::Memory>> rotary_memory_;
  std::vector<DeviceRotary> rotary_;  // by window
  std::vector<std::unique_ptr<Accelerator::Memory>> slots_;
  std::unique_ptr<Accelerator::Memory> staging_;
  std::unique_ptr<Accelerator::Memory> head_normed_, head_terms_, head_thin_terms_;  // for all tiles of a chunk
  std::vector<std::unique_ptr<Accelerator::Event>> copied_;                          // by place in the ring
  std::vector<std::unique_ptr<Accelerator::Event>> fed_, started_, done_;            // by layer, tiles of the head last
  std::vector<Accelerator::Event*> before_;  // what compute did before a layer's start
  std::size_t next_piece_ = 0;
  std::size_t fed_to_ = 0;                  // layers and tiles
  std::size_t tile_bytes_ = 0;              // from one tile of the head to the next in its slot
  const DeviceWeights* weights_ = nullptr;  // of the layer being queued
  std::byte* slot_ = nullptr;
  DeviceMatrix head_x_;  // normed rows of the head's chunk
  Terms head_x_terms_{}, head_thin_{};
};

}  // namespace ropewalk::verify
