#include "verify/forward.h"

#include <algorithm>
#include <map>

#include "lib/error.h"
#include "verify/gemm.h"
#include "verify/rms_norm.h"

namespace ropewalk::verify {

void check_ids(const Checkpoint& model, std::span<const Window> windows) {
  for (std::size_t window = 0; window < windows.size(); ++window)
    for (std::size_t position = 0; position < windows[window].size(); ++position) {
      const std::int32_t id = windows[window][position];
      if (id >= 0 && id < model.config.n_vocab) continue;
      throw Error(ErrorKind::bad_input, {model.label},
                  "id " + std::to_string(id) + " at position " + std::to_string(position) + " of window " +
                      std::to_string(window) + " is outside the vocabulary of " + std::to_string(model.config.n_vocab),
                  "use the tokenizer that belongs to the model");
    }
}

std::vector<std::shared_ptr<const RotaryTable>> rotary_tables(const Checkpoint& model,
                                                              std::span<const std::size_t> lengths) {
  const bool by_length = depends_on_length(model.config.rope);
  const std::size_t longest = lengths.empty() ? 0 : *std::ranges::max_element(lengths);
  std::map<std::size_t, std::shared_ptr<const RotaryTable>> tables;
  std::vector<std::shared_ptr<const RotaryTable>> out;
  for (const std::size_t length : lengths) {
    const std::size_t positions = by_length ? length : longest;
    auto& table = tables[positions];
    if (!table) {
      const RopeTable frequencies = rope_table(model.config.rope, static_cast<int>(positions));
      if (2 * frequencies.inv_freq.size() > std::size_t(model.config.head_dim))
        throw Error(ErrorKind::unsupported, {model.label},
                    "the rope rotates " + std::to_string(2 * frequencies.inv_freq.size()) + " channels of heads of " +
                        std::to_string(model.config.head_dim),
                    "correct the rope configuration");
      table = std::make_shared<const RotaryTable>(rotary_table(frequencies, positions));
    }
    out.push_back(table);
  }
  return out;
}

Forward::Forward(const Checkpoint& model, std::span<const Window> windows, const Workers& workers,
                 std::size_t chunk_rows)
    : model_(model), workers_(workers) {
  check_config(model);
  check_ids(model, windows);
  std::vector<std::int32_t> ids;
  for (const Window& window : windows) {
    lengths_.push_back(window.size());
    ids.insert(ids.end(), window.begin(), window.end());
  }
  chunks_ = plan_chunks(lengths_, chunk_rows);
  rotary_ = rotary_tables(model, lengths_);
  rows_ = ids.size();
  stride_ = row_stride(std::size_t(model.config.d_model));
  residual_.grow(rows_ * stride_);
  read_embeddings(model, ids, residual_.data(), stride_, workers);
}

void Forward::run_layer(int layer, const SeeInputs& see) {
  scratch_.keep_inputs = bool(see);
  read_layer(model_, layer, workers_, weights_);
  for (const Chunk& chunk : chunks_) {
    caches_.resize(std::max(caches_.size(), chunk.size()));
    for (const Stretch& stretch : chunk)
      if (stretch.first_position == 0)
        caches_[stretch.cache].reserve(std::size_t(config().n_kv_heads), std::size_t(config().head_dim),
                                       lengths_[stretch.window]);
    verify::run_layer(config(), weights_, chunk, residual_.data() + chunk.front().first_row * stride_, caches_, rotary_,
                      workers_, scratch_);
    if (see) see(chunk, scratch_);
  }
}

void HeadRows::start(const ModelConfig& config, const HeadWeights& head, const float* x, std::size_t x_stride,
                     std::size_t rows) {
  head_ = &head, rows_ = rows;
  const auto d_model = std::size_t(config.d_model);
  normed_.grow(kRows * row_stride(d_model));
  logits_.grow(kRows * row_stride(kVocabBlock));
  rms_norm(x, x_stride, rows, head.norm.data(), d_model, config.rms_eps, normed_.data(), row_stride(d_model));
  if (head.delta.rank() == 0) return;
  thin_.grow(kRows * row_stride(head.delta.rank()));
  gemm({.a = normed_.data(),
        .a_stride = row_stride(d_model),
        .rows = rows,
        .b = head.delta.a.panel(0),
        .panel_stride = d_model * kPanel,
        .panels = head.delta.a.panels,
        .depth = d_model,
        .c = thin_.data(),
        .c_stride = row_stride(head.delta.rank())});
}

void HeadRows::compute(std::size_t first_column) {
  const PackedMatrix& w = head_->logits;
  const std::size_t first_panel = first_column / kPanel,
                    panels = std::min(kVocabBlock / kPanel, w.panels - first_panel);
  width_ = std::min(kVocabBlock, w.outputs - first_column);
  gemm({.a = normed_.data(),
        .a_stride = row_stride(w.depth),
        .rows = rows_,
        .b = w.panel(first_panel),
        .panel_stride = w.depth * kPanel,
        .panels = panels,
        .depth = w.depth,
        .c = logits_.data(),
        .c_stride = row_stride(kVocabBlock)});
  const std::size_t rank = head_->delta.rank();
  if (rank == 0) return;
  gemm({.a = thin_.data(),
        .a_stride = row_stride(rank),
        .rows = rows_,
        .b = head_->delta.b.panel(first_panel),
        .panel_stride = rank * kPanel,
        .panels = panels,
        .depth = rank,
        .c = logits_.data(),
        .c_stride = row_stride(kVocabBlock),
        .into = Into::add});
}

void for_row_blocks(const Workers& workers, std::size_t rows,
                    const std::function<void(std::size_t, std::size_t, std::size_t)>& piece) {
  const std::size_t block =
      std::clamp<std::size_t>(rows / (4 * static_cast<std::size_t>(workers.threads())) / 12 * 12, 12, HeadRows::kRows);
  workers.for_each((rows + block - 1) / block, [&](std::size_t index, std::size_t slot) {
    piece(index * block, std::min(block, rows - index * block), slot);
  });
}

std::vector<HeadRow> run_head(const Forward& forward, const HeadWeights& head, std::span<const std::int32_t> next,
                              const Workers& workers, const SeeLogits& see) {
  std::vector<HeadRow> rows(forward.rows());
  std::vector<HeadRows> scratch(static_cast<std::size_t>(workers.threads()));
  for_row_blocks(workers, rows.size(), [&](std::size_t first, std::size_t count, std::size_t slot) {
    HeadRows& block = scratch[slot];
    block.start(forward.config(), head, forward.row(first), forward.stride(), count);
    for (std::size_t column = 0; column < head.logits.outputs; column += kVocabBlock) {
      block.compute(column);
      if (see) see(first, count, column, block);
      for (std::size_t r = 0; r < count; ++r) {
        // wraps where it is not in this block
        const std::size_t target = static_cast<std::size_t>(next[first + r]) - column;
        if (target < block.width()) rows[first + r].next_a = double(block.logits(r)[target]);
        accumulate(block.logits(r), column, block.width(), rows[first + r].statistics.a);
      }
    }
  });
  return rows;
}

}  // namespace ropewalk::verify
