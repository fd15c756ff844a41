#pragma once

#include <cstddef>
#include <functional>
#include <memory>

namespace ropewalk::verify {

/// The threads of one call. Work is cut into numbered pieces; who does which, and when, never changes a result.
class Workers {
 public:
  /// threads 0: lib's available_threads().
  explicit Workers(int threads);
  ~Workers();
  Workers(const Workers&) = delete;
  Workers& operator=(const Workers&) = delete;

  int threads() const noexcept { return threads_; }
  /// piece(index, slot) for every index < count; slot < threads() names the thread, for its scratch. Of pieces
  /// that throw the lowest index's exception is rethrown, whatever the threads, after all have stopped.
  void for_each(std::size_t count, const std::function<void(std::size_t index, std::size_t slot)>& piece) const;

 private:
  struct Arena;
  int threads_;
  std::unique_ptr<Arena> arena_;
};

}  // namespace ropewalk::verify
