#pragma once

#include <cstdint>
#include <string>

#include "lib/number_text.h"
#include "lib/plural.h"

namespace ropewalk::tools {

// Numbers for people. JSON output never goes through these.

/// Decimal units, three digits: "8.9 MB", "41 GB", "512 bytes".
std::string bytes_text(std::uint64_t bytes);
/// "4.2 M", "1.1 B", "2048": counts of parameters and tokens.
std::string count_text(std::uint64_t count);
/// Fixed decimals.
std::string fixed_text(double value, int decimals);
/// "48 s", "3 min 20 s", "2 h 05 min".
std::string duration_text(double seconds);

}  // namespace ropewalk::tools
