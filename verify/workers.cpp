#include "verify/workers.h"

#include <tbb/blocked_range.h>
#include <tbb/global_control.h>
#include <tbb/info.h>
#include <tbb/parallel_for.h>
#include <tbb/partitioner.h>
#include <tbb/task_arena.h>

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>

#include "lib/executor.h"

namespace ropewalk::verify {

struct Workers::Arena {
  explicit Arena(int threads)
      : limit(tbb::global_control::max_allowed_parallelism,
              static_cast<std::size_t>(std::max(threads, tbb::info::default_concurrency()))),
        arena(threads) {}
  tbb::global_control limit;  // more threads than cores are allowed, for those who ask
  tbb::task_arena arena;
};

Workers::Workers(int threads)
    : threads_(threads > 0 ? threads : available_threads()), arena_(std::make_unique<Arena>(threads_)) {}
Workers::~Workers() = default;

void Workers::for_each(std::size_t count, const std::function<void(std::size_t, std::size_t)>& piece) const {
  std::atomic<std::size_t> failed{count};  // the lowest piece that threw; those after it need not run
  std::mutex mutex;
  std::exception_ptr failure;
  const auto run = [&](std::size_t index, std::size_t slot) {
    try {
      piece(index, slot);
    } catch (...) {
      const std::lock_guard lock(mutex);
      if (index >= failed) return;
      failed = index;
      failure = std::current_exception();
    }
  };
  arena_->arena.execute([&] {
    tbb::parallel_for(
        tbb::blocked_range<std::size_t>(0, count, 1),
        [&](const tbb::blocked_range<std::size_t>& range) {
          const auto slot = static_cast<std::size_t>(tbb::this_task_arena::current_thread_index());
          for (std::size_t index = range.begin(); index < range.end() && index < failed; ++index) run(index, slot);
        },
        tbb::simple_partitioner());
  });
  if (failure) std::rethrow_exception(failure);
}

}  // namespace ropewalk::verify
