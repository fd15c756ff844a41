#pragma once

#include <string>
#include <vector>

#include "formats/gguf_write.h"
#include "tools/common_options.h"
#include "tools/render.h"

namespace ropewalk::tools {

/// An output with what the encoding of each of its tensors has lost, measured as it was written.
struct MeasuredOutput {
  std::string name;  // of the file
  const formats::GgufPlan* plan;
  std::vector<EncodingError> errors;  // by tensor of the plan; empty: not measured
};

/// Asked for by --rmse, or by a report to put them into.
bool measures_errors(bool rmse, const CommonOptions& common);
/// Sets "rmse", "relative_error" and "worst_row" {row, relative_error} of `tensor`, the plan's `index`-th; null where not
/// measured, and worst_row where nothing is lost.
void put_errors(Json& tensor, const MeasuredOutput& output, std::size_t index);
/// Per output and type of its tensors: means and extremes.
Table error_table(const std::vector<MeasuredOutput>& outputs);
/// Per tensor: type, bytes, errors, worst row.
Table tensor_table(const std::vector<MeasuredOutput>& outputs);
/// emit(), with the tables of errors: `summary` if they were asked for on standard output; reports have both, and a .csv
/// the tensors' alone.
void emit_measured(Output output, const std::vector<MeasuredOutput>& outputs, bool summary, const CommonOptions& common,
                   const Io& io);

}  // namespace ropewalk::tools
