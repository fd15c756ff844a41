#pragma once

#include <chrono>
#include <cstdint>
#include <string>

#include "tools/io.h"

namespace ropewalk::tools {

/// Progress of one long step on standard error: a bar with rate and time left on a terminal, a line every 30 seconds
/// otherwise, nothing when quiet.
/// Updates may come from any thread as long as they are serialised.
class Progress {
 public:
  enum class Unit { bytes, steps };
  Progress(const Io& io, bool quiet, std::string what, std::uint64_t total, Unit unit);
  ~Progress();  // clears the bar
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  void add(std::uint64_t amount) { set(done_ + amount); }
  void set(std::uint64_t done);

 private:
  using Clock = std::chrono::steady_clock;
  std::string line(double seconds) const;

  const Io& io_;
  bool quiet_, drawn_ = false;
  std::string what_;
  std::uint64_t total_, done_ = 0;
  Unit unit_;
  Clock::time_point start_, last_;
};

}  // namespace ropewalk::tools
