#pragma once

#include <sched.h>

#include <chrono>
#include <string>
#include <thread>
#include <vector>

#include "tests/tools/command.h"

namespace ropewalk::tools::test {

/// Runs until `file` is there, then kills. Both are on one processor, where what wakes from a sleep comes before what
/// computes: however loaded the machine is, it computes for a look's millisecond and a slice of the scheduler's more.
inline void kill_once_there(const std::vector<std::string>& words, const Scratch& scratch, const std::string& file) {
  cpu_set_t before, here;
  ASSERT_EQ(sched_getaffinity(0, sizeof before, &before), 0);
  CPU_ZERO(&here);
  CPU_SET(static_cast<std::size_t>(sched_getcpu()), &here);
  ASSERT_EQ(sched_setaffinity(0, sizeof here, &here), 0);
  Process process(words, {.folder = scratch.path()});
  while (!fs::exists(scratch / file)) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  process.kill(SIGKILL);
  const Ran ran = process.wait();
  sched_setaffinity(0, sizeof before, &before);
  ASSERT_EQ(ran.exit, 128 + SIGKILL) << ran.err;
}

}  // namespace ropewalk::tools::test
