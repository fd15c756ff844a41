#include "verify/weight_stream.h"

#include <algorithm>
#include <system_error>

#include "verify/no_threads.h"

namespace ropewalk::verify {

WeightStream::WeightStream(std::vector<Piece> pieces, int readers, std::size_t takers)
    : pieces_(std::move(pieces)), readers_(std::max(1, readers)), ready_(pieces_.size()), released_(takers) {}

void WeightStream::start(const std::function<std::vector<std::span<std::byte>>()>& make_ring) {
  const std::lock_guard lock(mutex_);
  if (!ring_.empty()) return;
  threads_.reserve(static_cast<std::size_t>(readers_));
  ring_ = make_ring();
  try {
    for (int i = 0; i < readers_; ++i) threads_.emplace_back([this] { read(); });
  } catch (const std::system_error&) {
    if (!threads_.empty()) return;  // fewer read
    failure_ = std::make_exception_ptr(no_more_threads());
    filled_.notify_all();
    std::rethrow_exception(failure_);
  }
}

WeightStream::~WeightStream() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  emptied_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void WeightStream::read() {
  for (;;) {
    std::unique_lock lock(mutex_);
    emptied_.wait(
        lock, [&] { return stop_ || next_ >= pieces_.size() || next_ < std::ranges::min(released_) + ring_.size(); });
    if (stop_ || next_ >= pieces_.size()) return;
    const std::size_t index = next_++;
    lock.unlock();
    try {
      pieces_[index].fill(ring_[index % ring_.size()].first(pieces_[index].bytes));
    } catch (...) {
      lock.lock();
      if (!failure_ || index < failed_) failure_ = std::current_exception(), failed_ = index;
      stop_ = true;
      filled_.notify_all(), emptied_.notify_all();
      return;
    }
    lock.lock();
    ready_[index] = true;
    filled_.notify_all();
  }
}

std::span<std::byte> WeightStream::wait(std::size_t index) {
  std::unique_lock lock(mutex_);
  filled_.wait(lock, [&] { return ready_[index] || (failure_ && failed_ <= index); });
  if (!ready_[index]) std::rethrow_exception(failure_);
  return ring_[index % ring_.size()].first(pieces_[index].bytes);
}

void WeightStream::release(std::size_t index, std::size_t taker) {
  {
    const std::lock_guard lock(mutex_);
    released_[taker] = index + 1;
  }
  emptied_.notify_all();
}

void WeightStream::leave(std::size_t taker) {
  {
    const std::lock_guard lock(mutex_);
    released_[taker] = pieces_.size();
    stop_ = stop_ || std::ranges::min(released_) == pieces_.size();
  }
  emptied_.notify_all();
}

}  // namespace ropewalk::verify
