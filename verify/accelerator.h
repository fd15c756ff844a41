#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "lib/dtype.h"
#include "lib/lazy_tensor.h"
#include "verify/device.h"

namespace ropewalk::verify {

struct HeadRow;  // verify/cuda/head_tile.h

/// What a matrix on the device holds.
enum class ElementType : std::uint8_t { f32, bf16, f16 };
constexpr std::size_t element_bytes(ElementType type) { return type == ElementType::f32 ? 4 : 2; }

/// A matrix on the device, its element known when the program runs; row r starts `r * stride` elements after `data`.
struct DeviceMatrix {
  std::byte* data = nullptr;
  ElementType type = ElementType::f32;
  std::size_t rows = 0, width = 0, stride = 0;  // elements

  DeviceMatrix row_range(std::size_t first, std::size_t count) const noexcept {
    return {data + first * stride * element_bytes(type), type, count, width, stride};
  }
  DeviceMatrix columns(std::size_t first, std::size_t count) const noexcept {
    return {data + first * element_bytes(type), type, rows, count, stride};
  }
};

/// cos and sin of rotary_table() (rotary.h) on the device: [positions, pairs].
struct DeviceRotary {
  std::size_t pairs = 0, positions = 0;
  DeviceSpan<const float> cos, sin;
};

/// One launch of attention: `windows` windows of equal length whose rows stand one after another in q and out, each
/// with `kv_rows` rows of keys and values.
struct DeviceAttention {
  DeviceMatrix q, out;        // [windows * rows, n_heads * head_dim]
  DeviceMatrix keys, values;  // [windows * kv_rows, n_kv_heads * head_dim]
  std::size_t windows, rows, kv_rows, first_position;
  std::size_t positions;  // of a whole window, all its chunks
  std::size_t n_heads, n_kv_heads, head_dim;
  std::size_t sliding_window;  // 0: all
  float scale;
};

/// A device as the layer sweep (device_forward.h) sees it: memory, three queues, events, and the operations of the
/// forward pass. CUDA's body is verify/cuda/accelerator.cpp; the tests have one that runs the same kernels on the host
/// and keeps all queues waiting as long as events allow. Called by one thread at a time. Everything but allocation and
/// waiting is queued and returns at once.
class Accelerator {
 public:
  /// copy: weights on their way; spill: hidden states that live in host memory, there and back.
  enum class Queue : std::uint8_t { compute, copy, spill };

  /// Bytes on the device (`bytes()`), or on the host where copies go from and to; freed with their owner, which does
  /// not wait: synchronize() first.
  class Memory {
   public:
    virtual ~Memory() = default;
    DeviceSpan<std::byte> bytes() const noexcept { return bytes_; }
    std::span<std::byte> host() const noexcept { return {bytes_.data, bytes_.size}; }  // of pinned memory only
    template <class T>
    DeviceSpan<T> as(std::size_t offset_bytes, std::size_t count) const noexcept {
      return {reinterpret_cast<T*>(bytes_.data + offset_bytes), count};
    }

   protected:
    DeviceSpan<std::byte> bytes_;
  };
  /// A point in a queue. Waiting for one that was never recorded is no wait.
  class Event {
   public:
    virtual ~Event() = default;
    virtual void record(Queue queue) = 0;
    virtual void make_wait(Queue queue) = 0;  // what is queued there from now on waits for the last record
    virtual void wait() = 0;                  // the host waits
    virtual double milliseconds_since(const Event& earlier) const = 0;  // both have been waited for
  };

  virtual ~Accelerator() = default;

  virtual std::string name() const = 0;            // "NVIDIA H200, cuBLASLt 13.0.2"
  virtual std::string attention_name() const = 0;  // who computed attention so far: "cuDNN 9.19.0"
  virtual std::string id() const = 0;              // "cuda:1"
  virtual std::uint64_t limit_bytes() const = 0;   // what may be allocated in all
  virtual std::uint64_t held_bytes() const = 0;    // what libraries have taken of the cap before
  /// Encodings dequantize() knows; others are widened on the host.
  virtual bool can_decode(DType dtype) const = 0;

  /// Once in each other thread than the one that opened it, before anything else is called there. Any thread may
  /// destroy it, and then has its device as current one.
  virtual void make_current() = 0;

  /// Error(device) naming `what` past the limit. Never empty.
  virtual std::unique_ptr<Memory> allocate(const std::string& what, std::uint64_t bytes) = 0;
  virtual std::unique_ptr<Memory> allocate_pinned(const std::string& what, std::uint64_t bytes) = 0;
  virtual std::unique_ptr<Event> event() = 0;
  /// What operations from now on belong to, for messages; nullopt: what comes before or after the layers.
  virtual void set_layer(Queue queue, std::optional<int> layer) = 0;
  virtual void synchronize() = 0;  // all queues

  /// The host's side is not touched until the queue has come past.
  virtual void copy_to_device(std::span<const std::byte> from, DeviceSpan<std::byte> to, Queue queue) = 0;
  virtual void copy_to_host(DeviceSpan<const std::byte> from, std::span<std::byte> to, Queue queue) = 0;

  // Contracts are those of verify/cuda/ops.h, gemm.h and attention.h. What has no `queue` goes to Queue::compute.
  virtual void dequantize(DType dtype, DeviceSpan<const std::byte> bytes, ElementType type, std::byte* values,
                          std::size_t count, Queue queue) = 0;
  /// terms: bf16, [number of terms, elements], anywhere.
  virtual void dequantize_terms(DType dtype, DeviceSpan<const std::byte> bytes, const DeviceMatrix& terms,
                                Queue queue) = 0;
  /// Of x whose rows stand side by side. terms: bf16, [number of terms, elements of x].
  virtual void split(const DeviceMatrix& x, const DeviceMatrix& terms, Queue queue) = 0;
  virtual void rms_norm(const DeviceMatrix& x, DeviceSpan<const float> gain, double eps, const DeviceMatrix& y) = 0;
  virtual void multiply(const DeviceMatrix& x, const DeviceMatrix& w, bool accumulate, const DeviceMatrix& out) = 0;
  virtual void rotate(const DeviceMatrix& x, std::size_t head_dim, RotaryPairs layout, const DeviceRotary& table,
                      std::size_t first_position, std::size_t window_rows, const DeviceMatrix& y) = 0;
  virtual void attention(const DeviceAttention& args) = 0;
  virtual void swiglu(const DeviceMatrix& gate_up, std::size_t group, const DeviceMatrix& y) = 0;
  virtual void add(const DeviceMatrix& x, const DeviceMatrix& y) = 0;
  virtual void head_statistics(const DeviceMatrix& a, const DeviceMatrix& b, std::size_t first_column,
                               DeviceSpan<const std::int32_t> next, DeviceSpan<HeadRow> out) = 0;
  /// out[row] = |a - b| / |a|, 2-norms in double, 0 where both rows are the same.
  virtual void distance(const DeviceMatrix& a, const DeviceMatrix& b, DeviceSpan<double> out) = 0;
};

/// `index`: as in cuda:INDEX; nullopt: the first. Error(device) with the reason if there is none. The last one opened in
/// a thread is that thread's current one.
/// Under AttentionBy::cudnn, no_cudnn() where it does not start.
std::unique_ptr<Accelerator> open_device(std::optional<int> index, std::optional<std::uint64_t> memory_cap,
                                         AttentionBy attention = AttentionBy::automatic);

/// Why cuDNN's library cannot be used, without asking a device: "this build has no cuDNN (ROPEWALK_CUDNN)", the
/// loader's words. Empty: it is there.
std::string why_no_cudnn();
/// Error(device) of AttentionBy::cudnn without it.
Error no_cudnn(const std::string& why);

}  // namespace ropewalk::verify
