#include "verify/cuda/runtime.h"

#include <algorithm>
#include <utility>

namespace ropewalk::verify {

bool built_with_cuda() noexcept { return true; }

DeviceList list_devices() {
  DeviceList list;
  int count = 0;
  if (const cudaError_t code = cudaGetDeviceCount(&count); code != cudaSuccess || count == 0) {
    list.why_none = code == cudaSuccess ? "no CUDA device" : cudaGetErrorString(code);
    cudaGetLastError();  // not sticky: the next call starts clean
    return list;
  }
  for (int index = 0; index < count; ++index) {
    cudaDeviceProp properties;
    std::size_t free = 0, total = 0;
    if (cudaGetDeviceProperties(&properties, index) != cudaSuccess || properties.major < 8 ||
        cudaSetDevice(index) != cudaSuccess || cudaMemGetInfo(&free, &total) != cudaSuccess) {
      list.why_none = "device " + std::to_string(index) + " is busy or older than compute capability 8.0";
      cudaGetLastError();
      continue;
    }
    list.devices.push_back({.index = index, .name = properties.name});
  }
  if (!list.devices.empty()) list.why_none.clear();
  return list;
}

void cuda_check(cudaError_t code, const DeviceOp& op) {
  if (code == cudaSuccess) return;
  cudaGetLastError();
  throw device_error(op, cudaGetErrorName(code), cudaGetErrorString(code));
}

DeviceMemory::DeviceMemory(int device, std::optional<std::uint64_t> cap) : device_(device) {
  const DeviceOp op{"opening device " + std::to_string(device), {}, {}};
  cuda_check(cudaSetDevice(device), op);
  std::size_t free = 0, total = 0;
  cuda_check(cudaMemGetInfo(&free, &total), op);
  limit_ = usable_bytes(free, cap);
}

DeviceBuffer::DeviceBuffer(DeviceMemory& memory, const std::string& what, std::uint64_t bytes) {
  const PlannedBuffer planned{what, bytes};
  require_fits({&planned, 1}, memory.limit_ - std::min(memory.used_, memory.limit_));
  if (bytes == 0) return;
  cuda_check(cudaMalloc(&data_, bytes), {"allocating " + what, {}, {bytes}});
  memory_ = &memory, bytes_ = bytes;
  memory.used_ += planned_bytes({&planned, 1});
}
DeviceBuffer::DeviceBuffer(DeviceBuffer&& other) noexcept
    : memory_(std::exchange(other.memory_, nullptr)),
      data_(std::exchange(other.data_, nullptr)),
      bytes_(std::exchange(other.bytes_, 0)) {}
DeviceBuffer& DeviceBuffer::operator=(DeviceBuffer&& other) noexcept {
  std::swap(memory_, other.memory_), std::swap(data_, other.data_), std::swap(bytes_, other.bytes_);
  return *this;
}
DeviceBuffer::~DeviceBuffer() {
  if (!data_) return;
  cudaFree(data_);
  const PlannedBuffer planned{{}, bytes_};
  memory_->used_ -= planned_bytes({&planned, 1});
}

PinnedBuffer::PinnedBuffer(const std::string& what, std::uint64_t bytes) : size_(bytes) {
  if (bytes > 0)
    cuda_check(cudaHostAlloc(&data_, bytes, cudaHostAllocPortable | cudaHostAllocMapped),
               {"pinning host memory for " + what, {}, {bytes}});
}
PinnedBuffer::PinnedBuffer(PinnedBuffer&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
PinnedBuffer& PinnedBuffer::operator=(PinnedBuffer&& other) noexcept {
  std::swap(data_, other.data_), std::swap(size_, other.size_);
  return *this;
}
PinnedBuffer::~PinnedBuffer() {
  if (data_) cudaFreeHost(data_);
}

Stream::Stream() : counter_("a stream's counter", sizeof(std::uint64_t)) {
  *reinterpret_cast<volatile std::uint64_t*>(counter_.bytes().data()) = 0;
  cuda_check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), {"creating a stream", {}, {}});
}
Stream::~Stream() {
  if (stream_) cudaStreamDestroy(stream_);  // waits for nothing: the work goes on
}

std::uint64_t Stream::finished() const noexcept {
  return *reinterpret_cast<const volatile std::uint64_t*>(counter_.bytes().data());
}

void Stream::fail(cudaError_t code) const {
  std::vector<std::optional<DeviceOp>> suspects = {log_.first_unfinished(finished())};
  for (const Stream* other : companions_) suspects.push_back(other->log_.first_unfinished(other->finished()));
  cuda_check(code, operation_at_fault(suspects, log_.last()));
  std::abort();  // only called with an error
}
void Stream::check(cudaError_t code) const {
  if (code != cudaSuccess) fail(code);
}

void Stream::queued(const char* name, std::initializer_list<std::uint64_t> shape) { queued(cudaSuccess, name, shape); }

void Stream::queued(cudaError_t code, const char* name, std::initializer_list<std::uint64_t> shape) {
  const std::uint64_t number = log_.note({name, layer_, shape});
  // A refused launch is this operation's own fault; anything older that surfaces here is found by the counter.
  if (code == cudaSuccess) code = cudaPeekAtLastError();
  if (code == cudaErrorInvalidConfiguration || code == cudaErrorInvalidValue || code == cudaErrorLaunchOutOfResources ||
      code == cudaErrorNoKernelImageForDevice)
    cuda_check(code, *log_.last());
  if (code == cudaSuccess) {
    mark_finished(reinterpret_cast<std::uint64_t*>(counter_.bytes().data()), number, stream_);
    code = cudaPeekAtLastError();
  }
  if (code != cudaSuccess) fail(code);
}

void Stream::failed(const char* name, std::initializer_list<std::uint64_t> shape, const std::string& code,
                    const std::string& text) {
  // Libraries call the driver: what they met there of an older operation the runtime tells when it is asked itself.
  const cudaError_t older = cudaStreamQuery(stream_);
  if (older != cudaSuccess && older != cudaErrorNotReady) fail(older);
  throw device_error({name, layer_, shape}, code, text);
}

void Stream::synchronize() {
  check(cudaStreamSynchronize(stream_));
  log_.all_done();
}

Event::Event() { cuda_check(cudaEventCreate(&event_), {"creating an event", {}, {}}); }
Event::Event(Event&& other) noexcept
    : event_(std::exchange(other.event_, nullptr)), stream_(std::exchange(other.stream_, nullptr)) {}
Event& Event::operator=(Event&& other) noexcept {
  std::swap(event_, other.event_), std::swap(stream_, other.stream_);
  return *this;
}
Event::~Event() {
  if (event_) cudaEventDestroy(event_);
}
void Event::record(const Stream& stream) {
  stream_ = &stream;
  stream.check(cudaEventRecord(event_, stream.get()));
}
void Event::make_wait(const Stream& stream) const { stream.check(cudaStreamWaitEvent(stream.get(), event_, 0)); }
void Event::wait() const {
  const cudaError_t code = cudaEventSynchronize(event_);
  if (stream_) stream_->check(code);
  else cuda_check(code, {"waiting for an event", {}, {}});
}
double Event::milliseconds_since(const Event& earlier) const {
  float milliseconds = 0;
  cuda_check(cudaEventElapsedTime(&milliseconds, earlier.event_, event_), {"timing", {}, {}});
  return double(milliseconds);
}

void copy_to_device(std::span<const std::byte> from, DeviceSpan<std::byte> to, Stream& stream) {
  const std::size_t bytes = std::min(from.size(), to.size);
  if (bytes > 0)
    stream.queued(cudaMemcpyAsync(to.data, from.data(), bytes, cudaMemcpyHostToDevice, stream.get()),
                  "copying to the device", {bytes});
}
void copy_to_host(DeviceSpan<const std::byte> from, std::span<std::byte> to, Stream& stream) {
  const std::size_t bytes = std::min(from.size, to.size());
  if (bytes > 0)
    stream.queued(cudaMemcpyAsync(to.data(), from.data, bytes, cudaMemcpyDeviceToHost, stream.get()),
                  "copying to the host", {bytes});
}

}  // namespace ropewalk::verify
