#pragma once

#include "lib/error.h"

namespace ropewalk::verify {

/// The system refuses to start a thread.
inline Error no_more_threads() {
  return Error(ErrorKind::io, {}, "the system gives no more threads",
               "use fewer with --threads, or raise the limit of processes (ulimit -u)");
}

}  // namespace ropewalk::verify
