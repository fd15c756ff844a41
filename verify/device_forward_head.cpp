#include "verify/device_forward.h"

// The head, tile after tile of the vocabulary.
namespace ropewalk::verify {
namespace {

using Queue = Accelerator::Queue;

}  // namespace

void DeviceForward::make_head_room() {
  const HeadBytes needed = head_bytes(model_, plan_, rows_);
  tile_bytes_ = needed.tile;
  for (std::size_t slot = 0; slot < plan_.head_slots(std::size_t(config().n_vocab)); ++slot)
    slots_.push_back(device_.allocate("weights of the head", needed.slot));
  head_normed_ = device_.allocate("normed rows of the head", needed.normed);
  if (needed.terms > 0) head_terms_ = device_.allocate("bf16 terms of the head", needed.terms);
  if (needed.thin_terms > 0)
    head_thin_terms_ = device_.allocate("bf16 terms of the head's adapter activations", needed.thin_terms);
}

void DeviceForward::use_tile(std::size_t tile) {
  const std::size_t piece = tile / tiles_of_piece();
  weights_ = &model_.weights[std::size_t(config().n_layers) + tile];
  slot_ = slots_[piece % slots_.size()]->bytes().data + tile % tiles_of_piece() * tile_bytes_;
}

void DeviceForward::begin_head(std::size_t piece) {
  const std::size_t at = std::size_t(config().n_layers) + piece * tiles_of_piece();
  use_tile(piece * tiles_of_piece());
  if (piece > 0) before_[at] = shared_.last_done;
  fed_[fed_to_ - 1]->make_wait(Queue::compute);  // of the piece's last tile
  started_[at]->record(Queue::compute);
  device_.set_layer(Queue::compute, std::nullopt), device_.set_layer(Queue::spill, std::nullopt);
}

void DeviceForward::begin_head_rows(std::size_t first, std::size_t rows, std::size_t place) {
  const DeviceWeight& w = weights_->matrices[DeviceWeights::kLogits];  // any tile's: norm and A are in each
  head_x_ = activation(head_normed_, rows, d_model_);
  device_.rms_norm(residual(first, rows, place), vector(DeviceWeights::kFinalNorm), config().rms_eps, head_x_);
  done_with(place);
  if (model_.type == ElementType::f32 || !w.deltas.empty())
    head_x_terms_ = terms_of(head_x_, head_terms_, delta_terms(model_.type));
  if (!w.deltas.empty()) head_thin_ = thin_of(head_x_terms_, w, head_thin_terms_);
}

void DeviceForward::head_tile(std::size_t tile, const DeviceMatrix& logits) {
  use_tile(tile);
  const DeviceWeight& w = weights_->matrices[DeviceWeights::kLogits];
  product(head_x_, head_x_terms_, w, false, logits);
  add_deltas(head_thin_, w, logits);
}

void DeviceForward::end_head(std::size_t piece) {
  const std::size_t at = std::size_t(config().n_layers) + piece * tiles_of_piece();
  done_[at]->record(Queue::compute);
  shared_.last_done = done_[at].get();
}

}  // namespace ropewalk::verify
