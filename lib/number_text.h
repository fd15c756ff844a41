#pragma once

#include <string>

namespace ropewalk {

/// Significant digits without trailing noise: number_text(31.5372, 4) is "31.54"; infinities and NaN by name.
std::string number_text(double value, int digits);
/// The fewest digits that are read back as `value`: "0.1", "1e-05", "4096". What a float can hold is shown with a
/// float's digits, for it mostly was one.
std::string round_trip_text(double value);

}  // namespace ropewalk
