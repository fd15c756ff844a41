#include "tools/sweep_options.h"

namespace ropewalk::tools {

verify::SweepOptions sweep_options(const CommonOptions& common, Progress& progress) {
  verify::SweepOptions options;
  options.threads = common.threads;
  options.progress = [&progress](int done, int) { progress.set(static_cast<std::uint64_t>(done)); };
  return options;
}

}  // namespace ropewalk::tools
