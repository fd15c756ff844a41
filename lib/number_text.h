#pragma once

#include <string>

namespace ropewalk {

/// Significant digits without trailing noise: number_text(31.5372, 4) is "31.54"; infinities and NaN by name.
std::string number_text(double value, int digits);

}  // namespace ropewalk
