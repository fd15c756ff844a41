#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <mutex>
#include <span>
#include <thread>
#include <vector>

namespace ropewalk::verify {

/// Bytes on their way from a checkpoint to a device, read ahead by threads into a ring of buffers. One thread takes
/// them out in order:
///   for index in 0 .. pieces: wait(index), queue the copy, ..., release(index) once the copy is done.
class WeightStream {
 public:
  /// fill(buffer) reads the piece's bytes; called once, by any thread.
  struct Piece {
    std::uint64_t bytes;
    std::function<void(std::span<std::byte>)> fill;
  };
  /// Piece i goes to ring[i % ring.size()], which must be as large as the largest. Reading starts at once. The ring
  /// outlives it.
  WeightStream(std::vector<Piece> pieces, std::vector<std::span<std::byte>> ring, int readers);
  ~WeightStream();
  WeightStream(const WeightStream&) = delete;
  WeightStream& operator=(const WeightStream&) = delete;

  /// The bytes of piece `index`; waits for them. Rethrows what reading it, or the first piece before it,
  /// threw: with pieces taken in order the same error whatever the threads.
  std::span<std::byte> wait(std::size_t index);
  /// The buffer of piece `index` may be filled again. In order.
  void release(std::size_t index);

 private:
  void read();

  const std::vector<Piece> pieces_;
  const std::vector<std::span<std::byte>> ring_;
  std::mutex mutex_;
  std::condition_variable filled_, emptied_;
  std::vector<bool> ready_;
  std::size_t next_ = 0, released_ = 0;
  bool stop_ = false;
  std::exception_ptr failure_;
  std::size_t failed_ = 0;  // the lowest piece whose reading threw, if failure_
  std::vector<std::thread> threads_;
};

}  // namespace ropewalk::verify
