#include "verify/device_forward.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>

#include "lib/error.h"
#include "verify/forward.h"
#include "verify/model_weights.h"

namespace ropewalk::verify {
namespace {

using Queue = Accelerator::Queue;

template <class T>
std::span<const std::byte> bytes_of(const std::vector<T>& values) {
  return std::as_bytes(std::span(values));
}

std::vector<std::unique_ptr<Accelerator::Memory>> make_ring(Accelerator& device, std::uint64_t bytes,
                                                            std::size_t count) {
  std::vector<std::unique_ptr<Accelerator::Memory>> ring;
  for (std::size_t i = 0; i < count; ++i) ring.push_back(device.allocate_pinned("weights on their way", bytes));
  return ring;
}
std::vector<std::span<std::byte>> spans_of(const std::vector<std::unique_ptr<Accelerator::Memory>>& ring) {
  std::vector<std::span<std::byte>> spans;
  for (const auto& memory : ring) spans.push_back(memory->host());
  return spans;
}

std::vector<std::unique_ptr<Accelerator::Event>> make_events(Accelerator& device, std::size_t count) {
  std::vector<std::unique_ptr<Accelerator::Event>> events;
  for (std::size_t i = 0; i < count; ++i) events.push_back(device.event());
  return events;
}

}  // namespace

DeviceForward::DeviceForward(DeviceModel& model, std::span<const Window> windows, const DevicePlan& plan,
                             const DeviceTuning& tuning, const Workers& workers, DeviceActivations& shared,
                             std::size_t taker)
    : model_(model),
      device_(shared.device),
      shared_(shared),
      plan_(plan),
      taker_(taker),
      stream_(*model.stream),
      d_model_(std::size_t(model.model->config.d_model)),
      copied_(make_events(device_, std::max<std::size_t>(2, tuning.ring))),
      fed_(make_events(device_, model.weights.size())),
      started_(make_events(device_, model.weights.size())),
      done_(make_events(device_, model.weights.size())),
      before_(model.weights.size(), nullptr) {
  stream_.start([&] {
    model.ring = make_ring(device_, model.pieces.largest_bytes, copied_.size());
    return spans_of(model.ring);
  });
  std::vector<std::int32_t> ids;
  for (const Window& window : windows) {
    lengths_.push_back(window.size());
    ids.insert(ids.end(), window.begin(), window.end());
  }
  rows_ = ids.size();
  chunks_ = plan_chunks(lengths_, plan.chunk_rows);
  groups_ = head_groups(config(), plan.kv_groups);

  std::map<const RotaryTable*, DeviceRotary> uploaded;
  for (const auto& table : rotary_tables(*model.model, lengths_)) {
    DeviceRotary& on_device = uploaded[table.get()];
    if (!on_device.cos.data) {
      const std::size_t bytes = table->cos.size() * sizeof(float);
      rotary_memory_.push_back(device_.allocate("rotary tables", 2 * bytes));
      const auto& memory = rotary_memory_.back();
      device_.copy_to_device(bytes_of(table->cos), memory->bytes().subspan(0, bytes), Queue::compute);
      device_.copy_to_device(bytes_of(table->sin), memory->bytes().subspan(bytes, bytes), Queue::compute);
      device_.synchronize();  // the table is pageable, and goes away
      on_device = {table->pairs, table->pairs == 0 ? 0 : table->cos.size() / table->pairs,
                   memory->as<const float>(0, table->cos.size()), memory->as<const float>(bytes, table->sin.size())};
    }
    rotary_.push_back(on_device);
  }

  const std::uint64_t row_bytes = d_model_ * sizeof(float);
  residual_ = plan.spilled ? device_.allocate_pinned("residual", rows_ * row_bytes)
                           : device_.allocate("residual", rows_ * row_bytes);
  if (groups_.size() > 1)
    attended_ = device_.allocate_pinned(
        "attended rows", rows_ * groups_.back().first * std::size_t(config().head_dim) * element_bytes(model.type));
  const auto on_the_way =
      plan.spilled ? nullptr : device_.allocate_pinned("embeddings", std::min(plan.chunk_rows, rows_) * row_bytes);
  for (std::size_t first = 0; first < rows_; first += plan.chunk_rows) {
    const std::size_t count = std::min(plan.chunk_rows, rows_ - first);
    std::byte* to = plan.spilled ? residual_->host().data() + first * row_bytes : on_the_way->host().data();
    read_embeddings(*model.model, std::span(ids).subspan(first, count), reinterpret_cast<float*>(to), d_model_,
                    workers);
    if (plan.spilled) continue;
    device_.copy_to_device({to, count * row_bytes}, residual_->bytes().subspan(first * row_bytes, count * row_bytes),
                           Queue::compute);
    device_.synchronize();
  }
  for (std::size_t slot = 0; slot < plan.slots; ++slot)
    slots_.push_back(device_.allocate("weights of a layer", largest_layer_bytes(model)));
  staging_ = device_.allocate("weights on their way", model.pieces.largest_bytes);
}

// Loads and stores stand in one queue, so a row is never loaded before it was stored; what compute and they must know of
// each other are `moved` and `used`.
void DeviceForward::load_spilled(std::size_t first, std::size_t rows, std::size_t place) {
  const std::uint64_t row_bytes = d_model_ * sizeof(float);
  auto& to = shared_.places[place];
  to.used->make_wait(Queue::spill);
  device_.copy_to_device(residual_->host().subspan(first * row_bytes, rows * row_bytes),
                         to.bytes.subspan(0, rows * row_bytes), Queue::spill);
  to.moved->record(Queue::spill);
}

void DeviceForward::store_spilled(std::size_t first, std::size_t rows, std::size_t place) {
  const std::uint64_t row_bytes = d_model_ * sizeof(float);
  auto& from = shared_.places[place];
  from.used->make_wait(Queue::spill);
  device_.copy_to_host(from.bytes.subspan(0, rows * row_bytes),
                       residual_->host().subspan(first * row_bytes, rows * row_bytes), Queue::spill);
}

DeviceMatrix DeviceForward::residual(std::size_t first, std::size_t rows, std::size_t place) {
  const std::uint64_t row_bytes = d_model_ * sizeof(float);
  if (!plan_.spilled) return {residual_->bytes().data + first * row_bytes, ElementType::f32, rows, d_model_, d_model_};
  load_spilled(first, rows, place);
  shared_.places[place].moved->make_wait(Queue::compute);
  return {shared_.places[place].bytes.data, ElementType::f32, rows, d_model_, d_model_};
}

void DeviceForward::done_with(std::size_t place) {
  if (plan_.spilled) shared_.places[place].used->record(Queue::compute);
}

void DeviceForward::queue_piece(const WeightPiece& piece, std::span<const std::byte> bytes, std::byte* slot,
                                const DeviceWeights& weights) {
  if (!piece.matrix) {
    device_.copy_to_device(bytes, {slot, bytes.size()}, Queue::copy);
    return;
  }
  const DeviceWeight& matrix = weights.matrices[*piece.matrix];
  const ElementType stored = model_.type == ElementType::f32 ? ElementType::bf16 : model_.type;
  std::byte* to = slot + matrix.offset_bytes + piece.first_element * sizeof(std::uint16_t);
  if (matrix.terms == 1 && piece.dtype == (stored == ElementType::bf16 ? DType::bf16 : DType::f16)) {
    device_.copy_to_device(bytes, {to, bytes.size()}, Queue::copy);
    return;
  }
  const DeviceSpan<std::byte> staged = staging_->bytes().subspan(0, bytes.size());
  device_.copy_to_device(bytes, staged, Queue::copy);
  if (matrix.terms == 1) device_.dequantize(piece.dtype, staged, stored, to, piece.elements, Queue::copy);
  else
    device_.dequantize_terms(piece.dtype, staged,
                             {to, ElementType::bf16, matrix.terms, piece.elements, matrix.term_stride()}, Queue::copy);
}

void DeviceForward::feed(int layer) {
  const auto at = static_cast<std::size_t>(layer);
  if (at < fed_to_) return;
  if (at >= plan_.slots) done_[at - plan_.slots]->make_wait(Queue::copy);
  device_.set_layer(Queue::copy, layer);
  feed_to(at, slots_[at % plan_.slots]->bytes().data);
}

void DeviceForward::feed_tile(std::size_t tile) {
  const std::size_t layers = std::size_t(config().n_layers), in_piece = tile % tiles_of_piece(),
                    piece = tile / tiles_of_piece();
  if (in_piece == 0 && piece >= slots_.size())
    done_[layers + tile - slots_.size() * tiles_of_piece()]->make_wait(Queue::copy);
  device_.set_layer(Queue::copy, std::nullopt);
  feed_to(layers + tile, slots_[piece % slots_.size()]->bytes().data + in_piece * tile_bytes_);
}

void DeviceForward::feed_to(std::size_t at, std::byte* slot) {
  fed_to_ = at + 1;
  const std::size_t ring = copied_.size();
  for (const WeightPiece& piece : model_.pieces.of[at]) {
    const std::size_t index = next_piece_++;
    queue_piece(piece, stream_.wait(index), slot, model_.weights[at]);
    copied_[index % ring]->record(Queue::copy);
    if (piece.done) piece.done->release();
    // Half a ring behind, where the wait is short, a place is given back to the readers.
    if (index + 1 < ring / 2) continue;
    const std::size_t behind = index + 1 - ring / 2;
    copied_[behind % ring]->wait();
    stream_.release(behind, taker_);
  }
  fed_[at]->record(Queue::copy);
}

/// A bias and a delta are added to floats, before the one rounding to 16 bits.
DeviceMatrix DeviceForward::wide(std::size_t rows, std::size_t width) const {
  return {shared_.wide->bytes().data, ElementType::f32, rows, width, width};
}
DeviceSpan<const float> DeviceForward::vector(std::size_t index) const {
  const DeviceVector& vector = weights_->vectors[index];
  return {reinterpret_cast<const float*>(slot_ + vector.offset_bytes), vector.size};
}
DeviceMatrix DeviceForward::vector_row(std::size_t index) const {
  const DeviceVector& vector = weights_->vectors[index];
  return {slot_ + vector.offset_bytes, ElementType::f32, 1, vector.size, 0};
}
DeviceMatrix DeviceForward::activation(const std::unique_ptr<Accelerator::Memory>& memory, std::size_t rows,
                                       std::size_t width) const {
  return {memory->bytes().data, model_.type, rows, width, width};
}

/// x, whose rows stand side by side, split into `memory`; bf16 is its own only term.
DeviceForward::Terms DeviceForward::terms_of(const DeviceMatrix& x, const std::unique_ptr<Accelerator::Memory>& memory,
                                             std::size_t count) {
  if (x.type == ElementType::bf16) return {x, 1, 0};
  const std::size_t elements = x.rows * x.width;
  std::byte* data = memory->bytes().data;
  device_.split(x, {data, ElementType::bf16, count, elements, elements}, Queue::compute);
  return {{data, ElementType::bf16, x.rows, x.width, x.width}, count, elements};
}
DeviceForward::Terms DeviceForward::terms_of(const DeviceWeight& w) const {
  return {{slot_ + w.offset_bytes, ElementType::bf16, w.outputs, w.depth, w.depth}, w.terms, w.term_stride()};
}

/// Terms have 8 bits: x_i w_j is below 2^(-8 (i + j)) of the product. In f32 what i + j = 4 leaves out is below f32's
/// own rounding; beside 16-bit operands what i + j = 2 leaves out is 2^-16. The smallest first.
void DeviceForward::multiply_terms(const Terms& x, const Terms& w, bool accumulate, const DeviceMatrix& out) {
  const std::size_t last = model_.type == ElementType::f32 ? 3 : 1;
  bool add = accumulate;
  for (std::size_t order = std::min(last, x.count - 1 + w.count - 1) + 1; order-- > 0;)
    for (std::size_t i = 0; i < x.count; ++i) {
      if (i > order || order - i >= w.count) continue;
      device_.multiply(x.term(i), w.term(order - i), add, out);
      add = true;
    }
}

void DeviceForward::linear(const DeviceMatrix& x, std::size_t index, bool accumulate, const DeviceMatrix& out) {
  const DeviceWeight& w = weights_->matrices[index];
  Terms terms{};
  if (model_.type == ElementType::f32 || !w.deltas.empty())
    terms = terms_of(x, shared_.terms, delta_terms(model_.type));
  product(x, terms, w, accumulate, out);
  if (!w.deltas.empty()) add_deltas(thin_of(terms, w, shared_.thin_terms), w, out);
}

void DeviceForward::product(const DeviceMatrix& x, const Terms& terms, const DeviceWeight& w, bool accumulate,
                            const DeviceMatrix& out) {
  if (model_.type == ElementType::f32) multiply_terms(terms, terms_of(w), accumulate, out);
  else device_.multiply(x, {slot_ + w.offset_bytes, model_.type, w.outputs, w.depth, w.depth}, accumulate, out);
}

void DeviceForward::add_deltas(const Terms& thin, const DeviceWeight& w, const DeviceMatrix& out) {
  for (const DeviceWeight::Delta& delta : w.deltas) {
    const DeviceWeight& b = weights_->matrices[delta.b];
    multiply_terms(thin.columns(delta.first_rank, b.depth), terms_of(b), true,
                   out.columns(delta.first_output, b.outputs));
  }
}

DeviceForward::Terms DeviceForward::thin_of(const Terms& x, const DeviceWeight& w,
                                            const std::unique_ptr<Accelerator::Memory>& terms) {
  const DeviceWeight& a = weights_->matrices[w.a];
  const DeviceMatrix thin{shared_.thin->bytes().data, ElementType::f32, x.first.rows, a.outputs, a.outputs};
  multiply_terms(x, terms_of(a), false, thin);
  return terms_of(thin, terms, delta_terms(model_.type));
}

/// Q, K and V of all heads, whatever the group: the same product, so the same bits.
DeviceMatrix DeviceForward::project(const DeviceMatrix& x) {
  using W = DeviceWeights;
  const std::size_t rows = x.rows, qkv = weights_->matrices[W::kQkv].outputs;
  const DeviceMatrix normed = activation(shared_.normed, rows, d_model_),
                     projected = activation(shared_.projected, rows, qkv);
  device_.rms_norm(x, vector(W::kAttentionNorm), config().rms_eps, normed);
  const bool has_bias = vector(W::kQkvBias).size > 0,
             goes_wide = (has_bias || has_delta(W::kQkv)) && model_.type != ElementType::f32;
  const DeviceMatrix out = goes_wide ? wide(rows, qkv) : projected;
  linear(normed, W::kQkv, false, out);
  if (has_bias) device_.add(out, vector_row(W::kQkvBias));
  if (goes_wide)
    device_.dequantize(DType::f32, {out.data, rows * qkv * sizeof(float)}, model_.type, projected.data, rows * qkv,
                       Queue::compute);
  return projected;
}

void DeviceForward::finish_chunk(const DeviceMatrix& attended, const DeviceMatrix& x) {
  using W = DeviceWeights;
  const std::size_t rows = x.rows, d_ff = std::size_t(config().d_ff);
  linear(attended, W::kOutput, true, x);
  if (vector(W::kOutputBias).size > 0) device_.add(x, vector_row(W::kOutputBias));

  const DeviceMatrix normed = activation(shared_.normed, rows, d_model_),
                     activated = activation(shared_.activated, rows, d_ff);
  device_.rms_norm(x, vector(W::kMlpNorm), config().rms_eps, normed);
  const bool has_bias = vector(W::kGateUpBias).size > 0,
             goes_wide = (has_bias || has_delta(W::kGateUp)) && model_.type != ElementType::f32;
  const DeviceMatrix gate_up = goes_wide ? wide(rows, 2 * d_ff) : activation(shared_.projected, rows, 2 * d_ff);
  linear(normed, W::kGateUp, false, gate_up);
  if (has_bias) device_.add(gate_up, vector_row(W::kGateUpBias));
  device_.swiglu(gate_up, d_ff, activated);
  linear(activated, W::kDown, true, x);
  if (vector(W::kDownBias).size > 0) device_.add(x, vector_row(W::kDownBias));
}

void DeviceForward::run_layer(int layer) {
  feed(layer);
  const auto at = static_cast<std::size_t>(layer);
  weights_ = &model_.weights[at];
  slot_ = slots_[at % plan_.slots]->bytes().data;
  before_[at] = shared_.last_done;
  fed_[at]->make_wait(Queue::compute);
  started_[at]->record(Queue::compute);
  device_.set_layer(Queue::compute, layer), device_.set_layer(Queue::spill, layer);
  for (std::size_t group = 0; group < groups_.size(); ++group) run_group(group);
  done_[at]->record(Queue::compute);
  shared_.last_done = done_[at].get();
}

/// All chunks, for one group of heads; with the last of them the layer is done.
void DeviceForward::run_group(std::size_t group) {
  const bool is_last = group + 1 == groups_.size(), has_others = groups_.size() > 1;
  for (std::size_t chunk = 0; chunk < chunks_.size(); ++chunk) {
    const std::size_t place = chunk % 2, rows = row_count(chunk);
    const bool has_next = chunk + 1 < chunks_.size();
    DeviceMatrix x{nullptr, ElementType::f32, rows, d_model_, d_model_};
    if (!plan_.spilled) x = residual(first_row(chunk), rows, 0);
    else {
      x.data = shared_.places[place].bytes.data;
      if (chunk == 0) load_spilled(first_row(0), rows, 0);
      shared_.places[place].moved->make_wait(Queue::compute);
      // beside this chunk's computation, and after the store of the one before it
      if (has_next) load_spilled(first_row(chunk + 1), row_count(chunk + 1), 1 - place);
    }
    if (!is_last) {
      const DeviceMatrix projected = project(x);
      done_with(place);
      attend_and_store(chunk, projected, group);
      continue;
    }
    if (has_others && chunk == 0) load_attended(0);
    const DeviceMatrix projected = project(x), attended = activation(shared_.normed, rows, config().d_q());
    attend(chunks_[chunk], projected, groups_[group],
           attended.columns(groups_[group].first * std::size_t(config().head_dim), width(groups_[group])));
    if (has_others) {
      take_attended(chunk, attended);
      if (has_next) load_attended(chunk + 1);
    }
    finish_chunk(attended, x);
    done_with(place);
    if (plan_.spilled) store_spilled(first_row(chunk), rows, place);
  }
}

void DeviceForward::drop_layers() {
  device_.synchronize();
  slots_.clear();
}

double DeviceForward::first_wait_seconds() const {
  return before_[0] ? started_[0]->milliseconds_since(*before_[0]) / 1000 : 0;
}
double DeviceForward::other_wait_seconds() const {
  double sum = 0;
  for (std::size_t layer = 1; layer < started_.size(); ++layer)
    if (before_[layer]) sum += started_[layer]->milliseconds_since(*before_[layer]) / 1000;
  return sum;
}

}  // namespace ropewalk::verify
