#pragma once

#include "lib/error.h"

namespace ropewalk::tools {

/// What a command ends with that ends by an Error.
inline int exit_code(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::usage: return 2;
    case ErrorKind::bad_input: return 3;
    case ErrorKind::unsupported: return 4;
    case ErrorKind::io: return 5;
    case ErrorKind::device: return 6;
  }
  return 70;
}

}  // namespace ropewalk::tools
