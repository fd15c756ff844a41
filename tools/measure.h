#pragma once

#include <optional>
#include <string>

#include "tools/common_options.h"
#include "tools/sweep_options.h"
#include "tools/text_input.h"

namespace ropewalk::tools {

struct MeasureOptions {
  bool measure = false;
  TextOptions text;
  std::optional<int> context, windows;
  DeviceChoice device;
};
void declare_measure(CommandLine& line, MeasureOptions& options);
/// Error(usage) for options of a measurement where none is asked for.
void check_measure(const MeasureOptions& options);

/// What merging costs: the adapters beside the NF4 base, which is the function a QLoRA was trained as, against them
/// merged into the base as it is, and into the base through NF4; of a base that is quantized already, against them
/// merged into what it dequantizes to. Adds a table and the key "measure" to `output`.
void measure_merge(const std::string& source, const SourceOptions& modifiers, const MeasureOptions& options,
                   const CommonOptions& common, const Io& io, Output& output);

}  // namespace ropewalk::tools
