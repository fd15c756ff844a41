#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "verify/device.h"
#include "verify/op_log.h"

// Owners of what the CUDA runtime hands out. All are move-only; none is usable after a failed operation on its device
// ("sticky" errors end a process's use of it).
namespace ropewalk::verify {

/// Throws device_error(op, ...) unless `code` is success.
void cuda_check(cudaError_t code, const DeviceOp& op);

/// What may be allocated on one device, and what is. Buffers keep a reference: it outlives them.
class DeviceMemory {
 public:
  /// Makes `device` current for the calling thread and asks how much of it is free. Error(device).
  DeviceMemory(int device, std::optional<std::uint64_t> cap);
  DeviceMemory(const DeviceMemory&) = delete;
  DeviceMemory& operator=(const DeviceMemory&) = delete;

  int device() const noexcept { return device_; }
  std::uint64_t limit() const noexcept { return limit_; }  // usable_bytes at the start
  std::uint64_t used() const noexcept { return used_; }

 private:
  friend class DeviceBuffer;
  int device_;
  std::uint64_t limit_, used_ = 0;
};

/// Bytes on the device, not initialised.
class DeviceBuffer {
 public:
  DeviceBuffer() = default;
  /// Error(device) naming `what` and the bytes left if it passes the limit, without asking the driver.
  DeviceBuffer(DeviceMemory& memory, const std::string& what, std::uint64_t bytes);
  DeviceBuffer(DeviceBuffer&& other) noexcept;
  DeviceBuffer& operator=(DeviceBuffer&& other) noexcept;
  ~DeviceBuffer();

  std::uint64_t bytes() const noexcept { return bytes_; }
  /// All of it as elements of T; a rest smaller than one is left out.
  template <class T>
  DeviceSpan<T> as() const noexcept {
    return {static_cast<T*>(data_), static_cast<std::size_t>(bytes_ / sizeof(T))};
  }

 private:
  DeviceMemory* memory_ = nullptr;
  void* data_ = nullptr;
  std::uint64_t bytes_ = 0;
};

/// Host memory the device copies from and to without a stop over: pinned once and reused.
class PinnedBuffer {
 public:
  PinnedBuffer() = default;
  PinnedBuffer(const std::string& what, std::uint64_t bytes);
  PinnedBuffer(PinnedBuffer&& other) noexcept;
  PinnedBuffer& operator=(PinnedBuffer&& other) noexcept;
  ~PinnedBuffer();

  std::span<std::byte> bytes() const noexcept { return {static_cast<std::byte*>(data_), size_}; }

 private:
  void* data_ = nullptr;
  std::size_t size_ = 0;
};

/// A queue of operations on the current device, in order. It knows what was queued, and a word in pinned memory counts
/// what is finished: when an operation breaks (CUDA tells at some later call, of any kind, on any stream), the error names
/// the first unfinished one with its layer and shape, or those of several streams.
class Stream {
 public:
  Stream();
  /// Streams of the same device, which an error found here may come from; they outlive its use.
  void set_companions(std::vector<const Stream*> others) { companions_ = std::move(others); }
  Stream(Stream&&) = delete;
  ~Stream();

  cudaStream_t get() const noexcept { return stream_; }
  /// What operations from now on belong to.
  void set_layer(std::optional<int> layer) { layer_ = layer; }
  /// After every launch, copy or library call queued here: checks the launch and notes the operation. Error(device).
  void queued(const char* name, std::initializer_list<std::uint64_t> shape);
  /// As above with the code a call returned.
  void queued(cudaError_t code, const char* name, std::initializer_list<std::uint64_t> shape);
  /// After a library call that failed here: throws its Error(device), `code` and `text` in the library's words, or that
  /// of an older operation if the runtime knows of one.
  [[noreturn]] void failed(const char* name, std::initializer_list<std::uint64_t> shape, const std::string& code,
                           const std::string& text);
  /// Waits for all that was queued. Error(device).
  void synchronize();
  /// Error(device) for `code`, unless it is success, as that of an operation queued before.
  void check(cudaError_t code) const;

 private:
  [[noreturn]] void fail(cudaError_t code) const;
  std::uint64_t finished() const noexcept;

  cudaStream_t stream_ = nullptr;
  PinnedBuffer counter_;  // one 64-bit word: operations finished
  std::optional<int> layer_;
  OpLog log_;
  std::vector<const Stream*> companions_;
};

/// A point in a stream that another stream or the host waits for. What goes wrong there is an operation of that stream.
class Event {
 public:
  Event();
  Event(Event&& other) noexcept;
  Event& operator=(Event&& other) noexcept;
  ~Event();

  void record(const Stream& stream);           // which outlives the event's use
  void make_wait(const Stream& stream) const;  // what is queued there from now on waits
  void wait() const;                           // the host waits
  /// From `earlier` to this one; both have been waited for.
  double milliseconds_since(const Event& earlier) const;

 private:
  cudaEvent_t event_ = nullptr;
  const Stream* stream_ = nullptr;  // of the last record
};

/// bytes.size() of either side is what is copied; the host side should be pinned, and is not touched before the stream
/// is synchronised.
void copy_to_device(std::span<const std::byte> from, DeviceSpan<std::byte> to, Stream& stream);
void copy_to_host(DeviceSpan<const std::byte> from, std::span<std::byte> to, Stream& stream);

/// Queues `*counter = value`, visible to the host once all before it is done.
void mark_finished(std::uint64_t* counter, std::uint64_t value, cudaStream_t stream);

}  // namespace ropewalk::verify
