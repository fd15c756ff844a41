#include "verify/accelerator.h"

#include <algorithm>
#include <deque>

#include "verify/cuda/attentions.h"
#include "verify/cuda/gemm.h"
#include "verify/cuda/ops.h"

namespace ropewalk::verify {
namespace {

template <class T>
DeviceRows<T> rows_of(const DeviceMatrix& m) {
  return {reinterpret_cast<T*>(m.data), m.rows, m.width, m.stride};
}

class CudaMemory : public Accelerator::Memory {
 public:
  explicit CudaMemory(DeviceBuffer buffer) : buffer_(std::move(buffer)) { bytes_ = buffer_.as<std::byte>(); }

 private:
  DeviceBuffer buffer_;
};
class CudaPinned : public Accelerator::Memory {
 public:
  explicit CudaPinned(PinnedBuffer buffer) : buffer_(std::move(buffer)) {
    bytes_ = {buffer_.bytes().data(), buffer_.bytes().size()};
  }

 private:
  PinnedBuffer buffer_;
};

class CudaAccelerator : public Accelerator {
 public:
  CudaAccelerator(const DeviceInfo& device, std::optional<std::uint64_t> cap, AttentionBy attention)
      : memory_(device.index, cap),
        gemms_(memory_),
        attentions_(memory_, attention),
        name_(device.name + ", " + gemms_.name()) {
    compute_.set_companions({&copy_, &spill_}), copy_.set_companions({&compute_, &spill_}),
        spill_.set_companions({&compute_, &copy_});
  }

  ~CudaAccelerator() override {
    cudaSetDevice(memory_.device());  // what libraries free is freed on the current one; a failure frees nothing worse
  }

  std::string name() const override { return name_; }
  std::string attention_name() const override { return attentions_.name(); }
  std::string id() const override { return "cuda:" + std::to_string(memory_.device()); }
  void make_current() override {
    cuda_check(cudaSetDevice(memory_.device()), {"making " + id() + " the thread's own", {}, {}});
  }
  std::uint64_t limit_bytes() const override { return memory_.limit() - std::min(memory_.limit(), memory_.used()); }
  std::uint64_t held_bytes() const override { return memory_.used(); }
  bool can_decode(DType dtype) const override { return device_can_decode(dtype); }

  std::unique_ptr<Memory> allocate(const std::string& what, std::uint64_t bytes) override {
    return std::make_unique<CudaMemory>(DeviceBuffer(memory_, what, bytes));
  }
  std::unique_ptr<Memory> allocate_pinned(const std::string& what, std::uint64_t bytes) override {
    return std::make_unique<CudaPinned>(PinnedBuffer(what, bytes));
  }
  std::unique_ptr<Accelerator::Event> event() override { return std::make_unique<CudaEvent>(*this); }
  void set_layer(Queue queue, std::optional<int> layer) override { stream(queue).set_layer(layer); }
  void synchronize() override {
    copy_.synchronize();
    compute_.synchronize();
    spill_.synchronize();
  }

  void copy_to_device(std::span<const std::byte> from, DeviceSpan<std::byte> to, Queue queue) override {
    verify::copy_to_device(from, to, stream(queue));
  }
  void copy_to_host(DeviceSpan<const std::byte> from, std::span<std::byte> to, Queue queue) override {
    verify::copy_to_host(from, to, stream(queue));
  }

  void dequantize(DType dtype, DeviceSpan<const std::byte> bytes, ElementType type, std::byte* values,
                  std::size_t count, Queue queue) override {
    with_element(type, [&]<class T>(std::type_identity<T>) {
      verify::dequantize<T>(dtype, bytes, {reinterpret_cast<T*>(values), count}, stream(queue));
    });
  }
  void dequantize_terms(DType dtype, DeviceSpan<const std::byte> bytes, const DeviceMatrix& terms,
                        Queue queue) override {
    verify::dequantize_terms(dtype, bytes, rows_of<Bf16>(terms), stream(queue));
  }
  void split(const DeviceMatrix& x, const DeviceMatrix& terms, Queue queue) override {
    with_element(x.type, [&]<class T>(std::type_identity<T>) {
      split_bf16<T>({reinterpret_cast<const T*>(x.data), x.rows * x.width}, rows_of<Bf16>(terms), stream(queue));
    });
  }
  void rms_norm(const DeviceMatrix& x, DeviceSpan<const float> gain, double eps, const DeviceMatrix& y) override {
    with_element(y.type, [&]<class T>(std::type_identity<T>) {
      verify::rms_norm<T>(rows_of<const float>(x), gain, eps, rows_of<T>(y), compute_);
    });
  }
  void multiply(const DeviceMatrix& x, const DeviceMatrix& w, bool accumulate, const DeviceMatrix& out) override {
    with_element(w.type, [&]<class T>(std::type_identity<T>) {
      if constexpr (!std::is_same_v<T, float>) {
        if (out.type == ElementType::f32)
          gemms_.multiply<T, float>(rows_of<const T>(x), rows_of<const T>(w), accumulate, rows_of<float>(out),
                                    compute_);
        else gemms_.multiply<T, T>(rows_of<const T>(x), rows_of<const T>(w), accumulate, rows_of<T>(out), compute_);
      }
    });
  }
  void rotate(const DeviceMatrix& x, std::size_t head_dim, RotaryPairs layout, const DeviceRotary& table,
              std::size_t first_position, std::size_t window_rows, const DeviceMatrix& y) override {
    with_element(x.type, [&]<class T>(std::type_identity<T>) {
      verify::rotate<T>(rows_of<const T>(x), head_dim, layout, table, first_position, window_rows, rows_of<T>(y),
                        compute_);
    });
  }
  void attention(const DeviceAttention& a) override {
    with_element(a.q.type, [&]<class T>(std::type_identity<T>) {
      attentions_.attend<T>(attention_args<T>(a), a.windows, a.positions, compute_);
    });
  }
  void swiglu(const DeviceMatrix& gate_up, std::size_t group, const DeviceMatrix& y) override {
    with_element(y.type, [&]<class T>(std::type_identity<T>) {
      if (gate_up.type == ElementType::f32)
        verify::swiglu<float, T>(rows_of<const float>(gate_up), group, rows_of<T>(y), compute_);
      else if constexpr (!std::is_same_v<T, float>)
        verify::swiglu<T, T>(rows_of<const T>(gate_up), group, rows_of<T>(y), compute_);
    });
  }
  void add(const DeviceMatrix& x, const DeviceMatrix& y) override {
    with_element(y.type, [&]<class T>(std::type_identity<T>) {
      verify::add<T>(rows_of<float>(x), rows_of<const T>(y), compute_);
    });
  }
  void head_statistics(const DeviceMatrix& a, const DeviceMatrix& b, std::size_t first_column,
                       DeviceSpan<const std::int32_t> next, DeviceSpan<HeadRow> out) override {
    verify::head_statistics(rows_of<const float>(a), rows_of<const float>(b), first_column, next, out, compute_);
  }
  void distance(const DeviceMatrix& a, const DeviceMatrix& b, DeviceSpan<double> out) override {
    row_distance(rows_of<const float>(a), rows_of<const float>(b), out, compute_);
  }

 private:
  class CudaEvent : public Accelerator::Event {
   public:
    explicit CudaEvent(CudaAccelerator& owner) : owner_(owner) {}
    void record(Queue queue) override { event_.record(owner_.stream(queue)); }
    void make_wait(Queue queue) override { event_.make_wait(owner_.stream(queue)); }
    void wait() override { event_.wait(); }
    double milliseconds_since(const Accelerator::Event& earlier) const override {
      return event_.milliseconds_since(static_cast<const CudaEvent&>(earlier).event_);
    }

   private:
    CudaAccelerator& owner_;
    verify::Event event_;
  };

  Stream& stream(Queue queue) { return queue == Queue::copy ? copy_ : queue == Queue::spill ? spill_ : compute_; }

  DeviceMemory memory_;
  Stream compute_, copy_, spill_;
  Gemms gemms_;
  Attentions attentions_;
  std::string name_;
};

}  // namespace

std::unique_ptr<Accelerator> open_device(std::optional<int> index, std::optional<std::uint64_t> memory_cap,
                                         AttentionBy attention) {
  const DeviceList list = list_devices();
  if (list.devices.empty())
    throw Error(ErrorKind::device, {}, "no GPU can be used: " + list.why_none, "use --device cpu");
  const auto found =
      std::ranges::find_if(list.devices, [&](const DeviceInfo& device) { return !index || device.index == *index; });
  if (found == list.devices.end())
    throw Error(ErrorKind::device, {}, "there is no cuda:" + std::to_string(*index),
                "the first is cuda:" + std::to_string(list.devices.front().index));
  return std::make_unique<CudaAccelerator>(*found, memory_cap, attention);
}

std::string why_no_cudnn() { return CudnnSdpa::why_no_library(); }

}  // namespace ropewalk::verify
