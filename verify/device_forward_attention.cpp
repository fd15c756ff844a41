#include <cmath>

#include "verify/device_forward.h"

// Attention of a chunk: what one launch takes, and heads in turns, whose results wait in pinned host memory.
namespace ropewalk::verify {
namespace {

using Queue = Accelerator::Queue;

}  // namespace

/// Consecutive stretches of a chunk that one launch takes: windows of one length, whole; or a piece of one window.
struct DeviceForward::Launch {
  std::size_t row, rows, windows;  // first row in the chunk, rows of a window
  const Stretch* first;
};

void DeviceForward::attend(const Chunk& chunk, const DeviceMatrix& projected, const HeadGroup& heads,
                           const DeviceMatrix& out) {
  const ModelConfig& c = config();
  const auto head_dim = std::size_t(c.head_dim), d_q = c.d_q(), d_kv = c.d_kv(), kv_width = heads.n_kv * head_dim;
  std::vector<Launch> launches;
  for (const Stretch& stretch : chunk) {
    const std::size_t length = lengths_[stretch.window];
    if (!launches.empty() && stretch.rows == length && lengths_[launches.back().first->window] == length)
      ++launches.back().windows;
    else launches.push_back({stretch.first_row - chunk.front().first_row, stretch.rows, 1, &stretch});
  }
  for (const Launch& launch : launches) {
    const std::size_t count = launch.rows * launch.windows, position = launch.first->first_position,
                      kv_rows = position + launch.rows;
    const DeviceRotary& rotary = rotary_[launch.first->window];
    const DeviceMatrix rows = projected.row_range(launch.row, count),
                       q = rows.columns(heads.first * head_dim, width(heads)),
                       k = rows.columns(d_q + heads.first_kv * head_dim, kv_width),
                       v = rows.columns(d_q + d_kv + heads.first_kv * head_dim, kv_width);
    // The keys and values of a window stand where its rows stand in the chunk; those of a window in pieces from 0 on.
    const DeviceMatrix keys = activation(shared_.keys, launch.row + launch.windows * kv_rows, kv_width),
                       values = activation(shared_.values, keys.rows, kv_width);
    device_.rotate(q, head_dim, c.rotary_pairs, rotary, position, launch.rows, q);
    device_.rotate(k, head_dim, c.rotary_pairs, rotary, position, launch.rows,
                   keys.row_range(launch.row + position, count));
    // no pairs: a copy
    device_.rotate(v, head_dim, c.rotary_pairs, {0, rotary.positions, {}, {}}, position, launch.rows,
                   values.row_range(launch.row + position, count));
    device_.attention({.q = q,
                       .out = out.row_range(launch.row, count),
                       .keys = keys.row_range(launch.row, launch.windows * kv_rows),
                       .values = values.row_range(launch.row, launch.windows * kv_rows),
                       .windows = launch.windows,
                       .rows = launch.rows,
                       .kv_rows = kv_rows,
                       .first_position = position,
                       .positions = lengths_[launch.first->window],
                       .n_heads = heads.n,
                       .n_kv_heads = heads.n_kv,
                       .head_dim = head_dim,
                       .sliding_window = c.sliding_window ? std::size_t(*c.sliding_window) : 0,
                       .scale = float(1.0 / std::sqrt(double(head_dim)))});
  }
}

std::size_t DeviceForward::row_count(std::size_t chunk) const {
  return chunks_[chunk].back().first_row + chunks_[chunk].back().rows - first_row(chunk);
}
std::span<std::byte> DeviceForward::attended_host(std::size_t group, std::size_t first, std::size_t rows) {
  const std::size_t element = element_bytes(model_.type),
                    before = groups_[group].first * std::size_t(config().head_dim), wide = width(groups_[group]);
  return attended_->host().subspan((rows_ * before + first * wide) * element, rows * wide * element);
}

// `moved` is the last store from a place or load to it: compute writes there only after it.
void DeviceForward::attend_and_store(std::size_t chunk, const DeviceMatrix& projected, std::size_t group) {
  const HeadGroup& heads = groups_[group];
  auto& place = shared_.attended_places[chunk % 2];
  place.moved->make_wait(Queue::compute);
  const DeviceMatrix out{place.bytes.data, model_.type, projected.rows, width(heads), width(heads)};
  attend(chunks_[chunk], projected, heads, out);
  place.used->record(Queue::compute);
  place.used->make_wait(Queue::spill);
  const std::span<std::byte> host = attended_host(group, first_row(chunk), projected.rows);
  device_.copy_to_host(place.bytes.subspan(0, host.size()), host, Queue::spill);
  place.moved->record(Queue::spill);
}

void DeviceForward::load_attended(std::size_t chunk) {
  auto& place = shared_.attended_places[chunk % 2];
  place.used->make_wait(Queue::spill);
  std::size_t at = 0;
  for (std::size_t group = 0; group + 1 < groups_.size(); ++group) {
    const std::span<std::byte> host = attended_host(group, first_row(chunk), row_count(chunk));
    device_.copy_to_device(host, place.bytes.subspan(at, host.size()), Queue::spill);
    at += host.size();
  }
  place.moved->record(Queue::spill);
}

void DeviceForward::take_attended(std::size_t chunk, const DeviceMatrix& out) {
  auto& place = shared_.attended_places[chunk % 2];
  place.moved->make_wait(Queue::compute);
  const auto head_dim = std::size_t(config().head_dim);
  std::byte* at = place.bytes.data;
  for (std::size_t group = 0; group + 1 < groups_.size(); ++group) {
    const HeadGroup& heads = groups_[group];
    const DeviceMatrix from{at, model_.type, out.rows, width(heads), width(heads)};
    device_.rotate(from, head_dim, config().rotary_pairs, {0, 1, {}, {}}, 0, 1,  // no pairs: a copy
                   out.columns(heads.first * head_dim, width(heads)));
    at += out.rows * width(heads) * element_bytes(model_.type);
  }
  place.used->record(Queue::compute);
}

}  // namespace ropewalk::verify
