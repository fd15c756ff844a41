#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "lib/dtype.h"
#include "tools/command_line.h"
#include "verify/gates.h"

namespace ropewalk::tools {

/// --max and --min of verify: NAME[@FROM:TO]=V.
struct GateOptions {
  std::vector<std::string> max, min;
};
void declare_gates(CommandLine& line, GateOptions& options);

/// "0.02", "98%"; nullopt if it is no finite number.
std::optional<double> limit_from(std::string_view value);
/// A bound's value. Error(usage) naming `gate`, the whole text, with this advice.
double parse_limit(std::string_view value, std::string_view gate, const std::string& fix);

/// Positions take suffixes (8k), V may be a percentage (99.5%). Error(usage) with the text and what was expected: also
/// for what no report could answer, as an unknown figure, a range on one of the whole, a share past 1.
verify::GateRequest parse_gate(verify::Bound bound, std::string_view text);

/// Every bound asked for. Error(usage) as parse_gate's, and for a range that is not wholly within `context` positions
/// (0: not known yet, ranges are then not held against it).
std::vector<verify::GateRequest> asked_gates(const GateOptions& options, int context);

/// `asked` after the defaults for `encoding`; a bound of the same name without a range replaces its default.
std::vector<verify::GateRequest> with_defaults(const std::vector<verify::GateRequest>& asked, DType encoding);

}  // namespace ropewalk::tools
