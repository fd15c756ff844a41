#pragma once

#include <string>

namespace ropewalk {

/// The fewest digits that are read back as `value`: "0.1", "1e-05", "4096". What a float can hold is shown with a
/// float's digits, for it mostly was one.
std::string shortest(double value);

}  // namespace ropewalk
