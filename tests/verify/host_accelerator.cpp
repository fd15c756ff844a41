#include "tests/verify/host_accelerator.h"

#include <cmath>

#include "tests/verify/host_block.h"
#include "tests/verify/run_decode.h"
#include "verify/cuda/head_tile.h"
#include "verify/cuda/row_tiles.h"
#include "verify/gemm.h"

namespace ropewalk::verify {
namespace {

template <class T>
T* at(const DeviceMatrix& m) {
  return reinterpret_cast<T*>(m.data);
}

/// Each row on its own, over the keys it sees.
template <class T>
void plain_attention(const DeviceAttention& a) {
  const std::size_t share = a.n_heads / a.n_kv_heads;
  std::vector<double> weights;
  for (std::size_t row = 0; row < a.windows * a.rows; ++row) {
    const std::size_t window = row / a.rows, position = a.first_position + row % a.rows;
    const std::size_t from =
        a.sliding_window != 0 && position + 1 > a.sliding_window ? position + 1 - a.sliding_window : 0;
    for (std::size_t head = 0; head < a.n_heads; ++head) {
      const T* q = at<T>(a.q) + row * a.q.stride + head * a.head_dim;
      const auto key_row = [&](const DeviceMatrix& m, std::size_t key) {
        return at<T>(m) + (window * a.kv_rows + key) * m.stride + head / share * a.head_dim;
      };
      double max = -INFINITY, sum = 0;
      weights.clear();
      for (std::size_t key = from; key <= position; ++key) {
        double score = 0;
        for (std::size_t c = 0; c < a.head_dim; ++c)
          score += double(to_float(q[c])) * double(to_float(key_row(a.keys, key)[c]));
        weights.push_back(score * double(a.scale));
        max = std::fmax(max, weights.back());
      }
      for (double& w : weights) w = std::exp(w - max), sum += w;
      for (std::size_t c = 0; c < a.head_dim; ++c) {
        double out = 0;
        for (std::size_t key = from; key <= position; ++key)
          out += weights[key - from] * double(to_float(key_row(a.values, key)[c]));
        at<T>(a.out)[row * a.out.stride + head * a.head_dim + c] = from_float<T>(float(out / sum));
      }
    }
  }
}

}  // namespace

bool HostAccelerator::can_decode(DType dtype) const { return is_plain(dtype) || has_block_decoder(dtype); }
void HostAccelerator::copy_to_device(std::span<const std::byte> from, DeviceSpan<std::byte> to, Queue queue) {
  if (from.size() > to.size) throw std::logic_error("a copy past the end");
  push(queue, [this, from, to] { std::memcpy(to.data, from.data(), from.size()), copied_ += from.size(); });
}
void HostAccelerator::copy_to_host(DeviceSpan<const std::byte> from, std::span<std::byte> to, Queue queue) {
  if (from.size > to.size()) throw std::logic_error("a copy past the end");
  push(queue, [from, to] { std::memcpy(to.data(), from.data, from.size); });
}
void HostAccelerator::dequantize(DType dtype, DeviceSpan<const std::byte> bytes, ElementType type, std::byte* values,
                                 std::size_t count, Queue queue) {
  const DecodedAs as = type == ElementType::f32    ? DecodedAs::f32
                       : type == ElementType::bf16 ? DecodedAs::bf16
                                                   : DecodedAs::f16;
  push(queue, [=] { run_decode(dtype, {.bytes = bytes.data, .elements = count, .as = as, .y = values}); });
}
void HostAccelerator::dequantize_terms(DType dtype, DeviceSpan<const std::byte> bytes, const DeviceMatrix& terms,
                                       Queue queue) {
  push(queue, [=] {
    run_decode(dtype, {.bytes = bytes.data,
                       .elements = terms.width,
                       .as = DecodedAs::terms,
                       .y = terms.data,
                       .terms = int(terms.rows),
                       .term_stride = terms.stride});
  });
}
void HostAccelerator::split(const DeviceMatrix& x, const DeviceMatrix& terms, Queue queue) {
  if (x.rows > 1 && x.stride != x.width) throw std::logic_error("rows that do not stand side by side");
  const std::size_t size = x.rows * x.width;
  push(queue, [=] {
    with_element(x.type, [&]<class T>(std::type_identity<T>) {
      for_row_blocks((size + kFlatElements - 1) / kFlatElements, false, [&](const HostBlock& block) {
        split_block(block, SplitArgs<T>{at<T>(x), size, int(terms.rows), at<Bf16>(terms), terms.stride});
      });
    });
  });
}
void HostAccelerator::rms_norm(const DeviceMatrix& x, DeviceSpan<const float> gain, double eps, const DeviceMatrix& y) {
  if (broken_layer && layer_ == broken_layer)
    push(Queue::compute, [op = DeviceOp{"rms_norm", layer_, {x.rows, x.width}}] {
      throw device_error(op, "cudaErrorIllegalAddress", "an illegal memory access was encountered");
    });
  push(Queue::compute, [=] {
    with_element(y.type, [&]<class T>(std::type_identity<T>) {
      for_row_blocks(x.rows, false, [&](const HostBlock& block) {
        rms_norm_block(block, RmsNormArgs<T>{at<float>(x), x.stride, gain.data, x.width, eps, at<T>(y), y.stride},
                       *fresh_shared<RmsNormShared>());
      });
    });
  });
}
void HostAccelerator::multiply(const DeviceMatrix& x, const DeviceMatrix& w, bool accumulate, const DeviceMatrix& out) {
  if (x.width != w.width || x.rows != out.rows || w.rows != out.width) throw std::logic_error("matrices do not fit");
  push(Queue::compute, [=] {
    with_element(w.type, [&]<class T>(std::type_identity<T>) {
      const std::size_t depth = x.width, width = whole_panels(w.rows);
      std::vector<float> a(x.rows * depth), sums(x.rows * width);
      AlignedBuffer panels(width * depth);
      for (std::size_t row = 0; row < x.rows; ++row)
        for (std::size_t k = 0; k < depth; ++k) a[row * depth + k] = to_float(at<T>(x)[row * x.stride + k]);
      for (std::size_t o = 0; o < w.rows; ++o)
        for (std::size_t k = 0; k < depth; ++k)
          panels.data()[(o / kPanel * depth + k) * kPanel + o % kPanel] = to_float(at<T>(w)[o * w.stride + k]);
      gemm({.a = a.data(),
            .a_stride = depth,
            .rows = x.rows,
            .b = panels.data(),
            .panel_stride = depth * kPanel,
            .panels = width / kPanel,
            .depth = depth,
            .c = sums.data(),
            .c_stride = width});
      with_element(out.type, [&]<class Out>(std::type_identity<Out>) {
        for (std::size_t row = 0; row < x.rows; ++row)
          for (std::size_t o = 0; o < w.rows; ++o) {
            Out& to = at<Out>(out)[row * out.stride + o];
            to = from_float<Out>(accumulate ? to_float(to) + sums[row * width + o] : sums[row * width + o]);
          }
      });
    });
  });
}
void HostAccelerator::rotate(const DeviceMatrix& x, std::size_t head_dim, RotaryPairs layout, const DeviceRotary& table,
                             std::size_t first_position, std::size_t window_rows, const DeviceMatrix& y) {
  if (first_position + window_rows > table.positions) throw std::logic_error("positions past the rotary table");
  push(Queue::compute, [=] {
    with_element(x.type, [&]<class T>(std::type_identity<T>) {
      for_row_blocks(x.rows, false, [&](const HostBlock& block) {
        rotate_block(block, RotateArgs<T>{at<T>(x), x.stride, at<T>(y), y.stride, x.width / head_dim, head_dim,
                                          table.pairs, layout == RotaryPairs::interleaved, table.cos.data,
                                          table.sin.data, first_position, window_rows});
      });
    });
  });
}
void HostAccelerator::attention(const DeviceAttention& a) {
  push(Queue::compute, [=] { with_element(a.q.type, [&]<class T>(std::type_identity<T>) { plain_attention<T>(a); }); });
}
void HostAccelerator::swiglu(const DeviceMatrix& gate_up, std::size_t group, const DeviceMatrix& y) {
  push(Queue::compute, [=] {
    with_element(gate_up.type, [&]<class In>(std::type_identity<In>) {
      with_element(y.type, [&]<class Out>(std::type_identity<Out>) {
        for_row_blocks(y.rows, false, [&](const HostBlock& block) {
          swiglu_block(block,
                       SwigluArgs<In, Out>{at<In>(gate_up), gate_up.stride, y.width, group, at<Out>(y), y.stride});
        });
      });
    });
  });
}
void HostAccelerator::add(const DeviceMatrix& x, const DeviceMatrix& y) {
  push(Queue::compute, [=] {
    with_element(y.type, [&]<class T>(std::type_identity<T>) {
      for_row_blocks(x.rows, false, [&](const HostBlock& block) {
        add_block(block, AddArgs<T>{at<float>(x), x.stride, at<T>(y), y.stride, x.width});
      });
    });
  });
}
void HostAccelerator::head_statistics(const DeviceMatrix& a, const DeviceMatrix& b, std::size_t first_column,
                                      DeviceSpan<const std::int32_t> next, DeviceSpan<HeadRow> out) {
  push(Queue::compute, [=] {
    const HeadArgs args{at<float>(a), at<float>(b), a.stride, a.width, first_column, next.data, out.data};
    for_row_blocks(a.rows, false, [&](const HostBlock& block) {
      if (b.data) head_block<true>(block, args, *fresh_shared<HeadShared>());
      else head_block<false>(block, args, *fresh_shared<HeadShared>());
    });
  });
}
void HostAccelerator::distance(const DeviceMatrix& a, const DeviceMatrix& b, DeviceSpan<double> out) {
  push(Queue::compute, [=] {
    for_row_blocks(a.rows, false, [&](const HostBlock& block) {
      distance_block(block, DistanceArgs{at<float>(a), a.stride, at<float>(b), b.stride, a.width, out.data},
                     *fresh_shared<DistanceShared>());
    });
  });
}

}  // namespace ropewalk::verify
