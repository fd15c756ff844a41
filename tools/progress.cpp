#include "tools/progress.h"

#include <algorithm>
#include <ostream>

#include "tools/units.h"

namespace ropewalk::tools {

Progress::Progress(const Io& io, bool quiet, std::string what, std::uint64_t total, Unit unit)
    : io_(io), quiet_(quiet), what_(std::move(what)), total_(total), unit_(unit), start_(Clock::now()), last_(start_) {}

Progress::~Progress() {
  if (drawn_) io_.err << "\r\033[K" << std::flush;
}

std::string Progress::line(double seconds) const {
  const double part = total_ > 0 ? std::min(1.0, static_cast<double>(done_) / static_cast<double>(total_)) : 1.0;
  std::string text = what_ + " ";
  if (io_.err_is_terminal) {
    constexpr int kWidth = 30;
    const int filled = static_cast<int>(part * kWidth);
    text += "[" + std::string(static_cast<std::size_t>(filled), '=') +
            std::string(static_cast<std::size_t>(kWidth - filled), ' ') + "] ";
  }
  text += fixed_text(100 * part, 0) + "%";
  if (seconds > 0.5 && done_ > 0) {
    const double rate = static_cast<double>(done_) / seconds;
    if (unit_ == Unit::bytes) text += "  " + bytes_text(static_cast<std::uint64_t>(rate)) + "/s";
    text += "  " + duration_text(seconds * (1 - part) / std::max(part, 1e-9)) + " left";
  }
  return text;
}

void Progress::set(std::uint64_t done) {
  done_ = done;
  if (quiet_) return;
  const auto now = Clock::now();
  const std::chrono::duration<double> since = now - last_, all = now - start_;
  if (since.count() < (io_.err_is_terminal ? 0.1 : 30.0)) return;
  last_ = now;
  if (io_.err_is_terminal) {
    io_.err << "\r\033[K" << line(all.count()) << std::flush;
    drawn_ = true;
  } else {
    io_.err << line(all.count()) << "\n" << std::flush;
  }
}

}  // namespace ropewalk::tools
