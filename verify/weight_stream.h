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

/// Bytes on their way from a checkpoint to devices, read ahead by threads into a ring of buffers: once for all of them.
/// Each taker, on a thread of its own, takes them out in order:
///   for index in 0 .. pieces: wait(index), queue the copy, ..., release(index, taker) once the copy is done.
/// A buffer is filled again when all takers have released it, so one that stops early says so: leave(taker).
class WeightStream {
 public:
  /// fill(buffer) reads the piece's bytes; called once, by any thread.
  struct Piece {
    std::uint64_t bytes;
    std::function<void(std::span<std::byte>)> fill;
  };
  WeightStream(std::vector<Piece> pieces, int readers, std::size_t takers);
  ~WeightStream();
  WeightStream(const WeightStream&) = delete;
  WeightStream& operator=(const WeightStream&) = delete;

  /// Every taker, before it waits for anything. Reading starts with the first, whose make_ring() says where to: piece i
  /// goes to ring[i % ring.size()], which must be as large as the largest, and outlives this. Error(io) here and in wait()
  /// if the system gives no thread at all; fewer than wanted do.
  void start(const std::function<std::vector<std::span<std::byte>>()>& make_ring);
  /// The bytes of piece `index`; waits for them. Rethrows what reading it, or the first piece before it,
  /// threw: with pieces taken in order the same error whatever the threads.
  std::span<std::byte> wait(std::size_t index);
  /// This taker has done with the buffer of piece `index`. In order.
  void release(std::size_t index, std::size_t taker);
  /// Nobody waits for this taker any more; when all have left, nothing more is read.
  void leave(std::size_t taker);

 private:
  void read();

  const std::vector<Piece> pieces_;
  const int readers_;
  std::vector<std::span<std::byte>> ring_;  // empty: not started
  std::mutex mutex_;
  std::condition_variable filled_, emptied_;
  std::vector<bool> ready_;
  std::size_t next_ = 0;
  std::vector<std::size_t> released_;  // pieces, by taker; all of them: it has left
  bool stop_ = false;
  std::exception_ptr failure_;
  std::size_t failed_ = 0;  // the lowest piece whose reading threw, if failure_
  std::vector<std::thread> threads_;
};

}  // namespace ropewalk::verify
