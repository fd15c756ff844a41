#pragma once

#include <cmath>
#include <cstring>
#include <deque>
#include <functional>
#include <memory>
#include <random>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "tests/verify/host_block.h"
#include "tests/verify/run_decode.h"
#include "verify/accelerator.h"
#include "verify/cuda/head_tile.h"
#include "verify/cuda/row_tiles.h"

namespace ropewalk::verify {

/// A device on the host: the row kernels as the device has them, plain loops for gemm and attention (whose tiles have
/// their own tests). Nothing queued runs before it must: when the host waits, operations of all queues run in an order
/// that `seed` chooses among those that events allow, no more of them than it takes. Memory is NaN at first and after
/// it is freed is gone, so that a wait that is missing gives wrong numbers, or is told by the address sanitizer.
class HostAccelerator : public Accelerator {
 public:
  HostAccelerator(unsigned seed, std::uint64_t limit) : random_(seed), limit_(limit) {}

  /// Waits to leave out, for tests that must fail.
  bool deaf = false, deaf_in_head = false;   // everywhere; after the layers
  std::optional<Queue> deaf_queue, unheard;  // nothing waits in this queue; nothing waits for what is recorded there
  int number = 0;
  std::uint64_t held = 0;
  std::string attention_told = "loops";
  /// The layer whose first norm breaks, as a kernel that reads past an end does: told when somebody waits.
  std::optional<int> broken_layer;
  std::uint64_t most_used() const { return most_; }
  std::uint64_t copied_bytes() const { return copied_; }

  std::string name() const override { return "host"; }
  std::string attention_name() const override { return attention_told; }
  std::string id() const override { return "host:" + std::to_string(number); }
  void make_current() override {}
  std::uint64_t limit_bytes() const override { return limit_; }
  std::uint64_t held_bytes() const override { return held; }
  bool can_decode(DType dtype) const override { return is_plain(dtype) || has_block_decoder(dtype); }

  std::unique_ptr<Memory> allocate(const std::string& what, std::uint64_t bytes) override {
    const PlannedBuffer planned{what, bytes};
    require_fits({&planned, 1}, limit_ - used_);
    return std::make_unique<HostMemory>(bytes, this);
  }
  std::unique_ptr<Memory> allocate_pinned(const std::string&, std::uint64_t bytes) override {
    return std::make_unique<HostMemory>(bytes, nullptr);
  }
  std::unique_ptr<Event> event() override { return std::make_unique<HostEvent>(*this); }
  void set_layer(Queue queue, std::optional<int> layer) override {
    if (queue == Queue::compute) layer_ = layer;
    seen_layers_ = seen_layers_ || layer.has_value();
    is_past_layers_ = seen_layers_ && !layer.has_value();
  }
  void synchronize() override {
    while (step()) {
    }
    for (const auto& queue : queues_)
      if (!queue.empty()) throw std::logic_error("the queues wait for each other");
  }

  void copy_to_device(std::span<const std::byte> from, DeviceSpan<std::byte> to, Queue queue) override {
    if (from.size() > to.size) throw std::logic_error("a copy past the end");
    push(queue, [this, from, to] { std::memcpy(to.data, from.data(), from.size()), copied_ += from.size(); });
  }
  void copy_to_host(DeviceSpan<const std::byte> from, std::span<std::byte> to, Queue queue) override {
    if (from.size > to.size()) throw std::logic_error("a copy past the end");
    push(queue, [from, to] { std::memcpy(to.data(), from.data, from.size); });
  }
  void dequantize(DType dtype, DeviceSpan<const std::byte> bytes, ElementType type, std::byte* values,
                  std::size_t count, Queue queue) override {
    const DecodedAs as = type == ElementType::f32    ? DecodedAs::f32
                         : type == ElementType::bf16 ? DecodedAs::bf16
                                                     : DecodedAs::f16;
    push(queue, [=] { run_decode(dtype, {.bytes = bytes.data, .elements = count, .as = as, .y = values}); });
  }
  void dequantize_terms(DType dtype, DeviceSpan<const std::byte> bytes, const DeviceMatrix& terms,
                        Queue queue) override {
    push(queue, [=] {
      run_decode(dtype, {.bytes = bytes.data,
                         .elements = terms.width,
                         .as = DecodedAs::terms,
                         .y = terms.data,
                         .terms = int(terms.rows),
                         .term_stride = terms.stride});
    });
  }
  void split(const DeviceMatrix& x, const DeviceMatrix& terms, Queue queue) override {
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
  void rms_norm(const DeviceMatrix& x, DeviceSpan<const float> gain, double eps, const DeviceMatrix& y) override {
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
  void multiply(const DeviceMatrix& x, const DeviceMatrix& w, bool accumulate, const DeviceMatrix& out) override {
    if (x.width != w.width || x.rows != out.rows || w.rows != out.width) throw std::logic_error("matrices do not fit");
    push(Queue::compute, [=] {
      with_element(w.type, [&]<class T>(std::type_identity<T>) {
        with_element(out.type, [&]<class Out>(std::type_identity<Out>) {
          for (std::size_t row = 0; row < x.rows; ++row)
            for (std::size_t o = 0; o < w.rows; ++o) {
              float sum = 0;
              const T *a = at<T>(x) + row * x.stride, *b = at<T>(w) + o * w.stride;
              for (std::size_t k = 0; k < x.width; ++k) sum = std::fma(to_float(a[k]), to_float(b[k]), sum);
              Out& to = at<Out>(out)[row * out.stride + o];
              to = from_float<Out>(accumulate ? to_float(to) + sum : sum);
            }
        });
      });
    });
  }
  void rotate(const DeviceMatrix& x, std::size_t head_dim, RotaryPairs layout, const DeviceRotary& table,
              std::size_t first_position, std::size_t window_rows, const DeviceMatrix& y) override {
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
  void attention(const DeviceAttention& a) override {
    push(Queue::compute,
         [=] { with_element(a.q.type, [&]<class T>(std::type_identity<T>) { plain_attention<T>(a); }); });
  }
  void swiglu(const DeviceMatrix& gate_up, std::size_t group, const DeviceMatrix& y) override {
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
  void add(const DeviceMatrix& x, const DeviceMatrix& y) override {
    push(Queue::compute, [=] {
      with_element(y.type, [&]<class T>(std::type_identity<T>) {
        for_row_blocks(x.rows, false, [&](const HostBlock& block) {
          add_block(block, AddArgs<T>{at<float>(x), x.stride, at<T>(y), y.stride, x.width});
        });
      });
    });
  }
  void head_statistics(const DeviceMatrix& a, const DeviceMatrix& b, std::size_t first_column,
                       DeviceSpan<const std::int32_t> next, DeviceSpan<HeadRow> out) override {
    push(Queue::compute, [=] {
      const HeadArgs args{at<float>(a), at<float>(b), a.stride, a.width, first_column, next.data, out.data};
      for_row_blocks(a.rows, false, [&](const HostBlock& block) {
        if (b.data) head_block<true>(block, args, *fresh_shared<HeadShared>());
        else head_block<false>(block, args, *fresh_shared<HeadShared>());
      });
    });
  }
  void distance(const DeviceMatrix& a, const DeviceMatrix& b, DeviceSpan<double> out) override {
    push(Queue::compute, [=] {
      for_row_blocks(a.rows, false, [&](const HostBlock& block) {
        distance_block(block, DistanceArgs{at<float>(a), a.stride, at<float>(b), b.stride, a.width, out.data},
                       *fresh_shared<DistanceShared>());
      });
    });
  }

 private:
  class HostMemory : public Memory {
   public:
    HostMemory(std::uint64_t bytes, HostAccelerator* owner)
        : storage_(new float[bytes / sizeof(float) + 64]), owner_(owner), counted_((bytes + 511) / 512 * 512) {
      std::memset(static_cast<void*>(storage_.get()), 0xff, bytes);
      bytes_ = {reinterpret_cast<std::byte*>(storage_.get()), bytes};
      if (owner_) owner_->used_ += counted_, owner_->most_ = std::max(owner_->most_, owner_->used_);
    }
    ~HostMemory() override {
      if (owner_) owner_->used_ -= counted_;
    }

   private:
    std::unique_ptr<float[]> storage_;
    HostAccelerator* owner_;
    std::uint64_t counted_;
  };
  struct Mark {
    std::uint64_t recorded = 0, passed = 0;
  };
  class HostEvent : public Event {
   public:
    explicit HostEvent(HostAccelerator& owner) : owner_(owner), mark_(std::make_shared<Mark>()) {}
    void record(Queue queue) override {
      recorded_in_ = queue;
      const std::uint64_t number = ++mark_->recorded;
      owner_.push(queue, [mark = mark_, number] { mark->passed = number; });
    }
    void make_wait(Queue queue) override {
      if (owner_.deaf || (owner_.deaf_in_head && owner_.is_past_layers_) || owner_.deaf_queue == queue ||
          (owner_.unheard && owner_.unheard == recorded_in_))
        return;
      owner_.queues_[std::size_t(queue)].push_back(
          {[mark = mark_, number = mark_->recorded] { return mark->passed >= number; }, [] {}});
    }
    void wait() override {
      const std::uint64_t number = mark_->recorded;
      while (mark_->passed < number)
        if (!owner_.step()) throw std::logic_error("waits for what can never happen");
    }
    double milliseconds_since(const Event&) const override { return 1; }

   private:
    HostAccelerator& owner_;
    std::shared_ptr<Mark> mark_;
    std::optional<Queue> recorded_in_;
  };
  struct Operation {
    std::function<bool()> can_run;
    std::function<void()> run;
  };

  template <class T>
  static T* at(const DeviceMatrix& m) {
    return reinterpret_cast<T*>(m.data);
  }
  void push(Queue queue, std::function<void()> run) {
    queues_[std::size_t(queue)].push_back({[] { return true; }, std::move(run)});
  }
  /// One operation of either queue; false if none can run.
  bool step() {
    const std::size_t first = random_() % 8 < 5 ? favourite_ : random_() % 3, turn = random_() % 2 + 1;
    if (random_() % 64 == 0) favourite_ = random_() % 3;
    for (const std::size_t queue : {first, (first + turn) % 3, (first + 2 * turn) % 3}) {
      if (queues_[queue].empty() || !queues_[queue].front().can_run()) continue;
      const Operation operation = std::move(queues_[queue].front());
      queues_[queue].pop_front();
      operation.run();
      return true;
    }
    return false;
  }

  /// Each row on its own, over the keys it sees.
  template <class T>
  static void plain_attention(const DeviceAttention& a) {
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

  std::mt19937 random_;
  std::size_t favourite_ = 0;
  std::optional<int> layer_;
  bool seen_layers_ = false, is_past_layers_ = false;
  std::uint64_t limit_, used_ = 0, most_ = 0, copied_ = 0;
  std::deque<Operation> queues_[3];
};

}  // namespace ropewalk::verify
