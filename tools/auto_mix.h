#pragma once

#include <optional>
#include <string>
#include <vector>

#include "formats/quantize/quantize.h"
#include "tools/common_options.h"
#include "tools/mix_options.h"
#include "tools/render.h"

namespace ropewalk::tools {

/// What choosing came to.
struct AutoMix {
  formats::QuantizePlan plan;
  std::vector<std::string> notes;  // what was asked for and reached; the plan, a line a kind of tensor
};

/// Error(usage) unless just one of --bpw, --size and --plan was given, or for what they do not mean.
void check_auto(const MixChoice& choice);

/// Types by measured error (formats/quantize/auto_types.h): reads the weights once and encodes them in every candidate;
/// or those of --plan. Saves --save-plan. Error(usage) if the budget is below what the smallest candidates take,
/// Error(bad_input) for a plan that is none or of another model.
AutoMix auto_mix(const formats::GgufPlan& source, const std::string& path, const formats::QuantizeOptions& options,
                 const MixChoice& choice, const CommonOptions& common, bool dry_run, const Io& io);

}  // namespace ropewalk::tools
