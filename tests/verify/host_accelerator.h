#pragma once

#include <algorithm>
#include <cstring>
#include <deque>
#include <functional>
#include <memory>
#include <random>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "verify/accelerator.h"

namespace ropewalk::verify {

/// A device on the host: the row kernels as the device has them, the host's own product for gemm and plain loops for
/// attention (whose tiles have their own tests). Nothing queued runs before it must: when the host waits, operations of all queues run in an order
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
  bool can_decode(DType dtype) const override;

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

  void copy_to_device(std::span<const std::byte> from, DeviceSpan<std::byte> to, Queue queue) override;
  void copy_to_host(DeviceSpan<const std::byte> from, std::span<std::byte> to, Queue queue) override;
  void dequantize(DType dtype, DeviceSpan<const std::byte> bytes, ElementType type, std::byte* values,
                  std::size_t count, Queue queue) override;
  void dequantize_terms(DType dtype, DeviceSpan<const std::byte> bytes, const DeviceMatrix& terms,
                        Queue queue) override;
  void split(const DeviceMatrix& x, const DeviceMatrix& terms, Queue queue) override;
  void rms_norm(const DeviceMatrix& x, DeviceSpan<const float> gain, double eps, const DeviceMatrix& y) override;
  void multiply(const DeviceMatrix& x, const DeviceMatrix& w, bool accumulate, const DeviceMatrix& out) override;
  void rotate(const DeviceMatrix& x, std::size_t head_dim, RotaryPairs layout, const DeviceRotary& table,
              std::size_t first_position, std::size_t window_rows, const DeviceMatrix& y) override;
  void attention(const DeviceAttention& a) override;
  void swiglu(const DeviceMatrix& gate_up, std::size_t group, const DeviceMatrix& y) override;
  void add(const DeviceMatrix& x, const DeviceMatrix& y) override;
  void head_statistics(const DeviceMatrix& a, const DeviceMatrix& b, std::size_t first_column,
                       DeviceSpan<const std::int32_t> next, DeviceSpan<HeadRow> out) override;
  void distance(const DeviceMatrix& a, const DeviceMatrix& b, DeviceSpan<double> out) override;

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

  std::mt19937 random_;
  std::size_t favourite_ = 0;
  std::optional<int> layer_;
  bool seen_layers_ = false, is_past_layers_ = false;
  std::uint64_t limit_, used_ = 0, most_ = 0, copied_ = 0;
  std::deque<Operation> queues_[3];
};

}  // namespace ropewalk::verify
