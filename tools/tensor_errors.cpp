#include "tools/tensor_errors.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <sstream>

#include "tools/units.h"

namespace ropewalk::tools {
namespace {

std::uint64_t bytes_of(const formats::GgufTensorPlan& tensor) {
  return byte_size(tensor.dtype, tensor.tensor->info().elements()).value_or(0);
}

}  // namespace

bool measures_errors(bool rmse, const CommonOptions& common) { return rmse || !common.reports.empty(); }

void put_errors(Json& tensor, const MeasuredOutput& output, std::size_t index) {
  tensor["rmse"] = tensor["relative_error"] = tensor["worst_row"] = nullptr;
  if (output.errors.empty()) return;
  const EncodingError& error = output.errors[index];
  tensor["rmse"] = error.rmse();
  tensor["relative_error"] = error.relative();
  if (error.worst_row_error != 0)
    tensor["worst_row"] = {{"row", error.worst_row}, {"relative_error", error.worst_row_error}};
}

Table error_table(const std::vector<MeasuredOutput>& outputs) {
  Table table{{{"output"}, {"type"}, {"tensors", true}, {"mean rmse", true}, {"largest rmse", true}, {"of tensor"}},
              {}};
  struct Sums {
    std::uint64_t n = 0;
    double total = 0, largest = -1;
    std::string worst;
  };
  for (const MeasuredOutput& output : outputs) {
    std::map<DType, Sums> by_type;
    for (std::size_t i = 0; i < output.errors.size(); ++i) {
      const formats::GgufTensorPlan& tensor = output.plan->tensors[i];
      const double rmse = output.errors[i].rmse();
      Sums& sums = by_type[tensor.dtype];
      ++sums.n, sums.total += rmse;
      if (!(rmse <= sums.largest) && !std::isnan(sums.largest)) sums.largest = rmse, sums.worst = tensor.name;
    }
    for (const auto& [type, sums] : by_type)
      table.rows.push_back({output.name, std::string(info(type).name), std::to_string(sums.n),
                            number_text(sums.total / static_cast<double>(sums.n), 3), number_text(sums.largest, 3),
                            sums.largest <= 0 ? "-" : sums.worst});
  }
  return table;
}

Table tensor_table(const std::vector<MeasuredOutput>& outputs) {
  Table table{{{"output"},
               {"tensor"},
               {"type"},
               {"bytes", true},
               {"rmse", true},
               {"relative error", true},
               {"worst row", true},
               {"its relative error", true}},
              {}};
  for (const MeasuredOutput& output : outputs)
    for (std::size_t i = 0; i < output.errors.size(); ++i) {
      const formats::GgufTensorPlan& tensor = output.plan->tensors[i];
      const EncodingError& error = output.errors[i];
      const bool lost = error.worst_row_error != 0;
      table.rows.push_back({output.name, tensor.name, std::string(info(tensor.dtype).name),
                            std::to_string(bytes_of(tensor)), number_text(error.rmse(), 6),
                            number_text(error.relative(), 6), lost ? std::to_string(error.worst_row) : "-",
                            lost ? number_text(error.worst_row_error, 6) : "-"});
    }
  return table;
}

void emit_measured(Output output, const std::vector<MeasuredOutput>& outputs, bool summary, const CommonOptions& common,
                   const Io& io) {
  const bool measured = std::ranges::any_of(outputs, [](const MeasuredOutput& one) { return !one.errors.empty(); });
  if (!measured) return emit(output, common, io);
  if (!common.reports.empty()) {  // of every tensor: too long for a terminal
    Output whole = output;
    whole.table(error_table(outputs));
    whole.table(tensor_table(outputs));
    whole.csv = tensor_table(outputs);
    std::ostringstream nowhere;
    emit(whole, common, Io{io.in, nowhere, io.err, io.err_is_terminal, io.color, io.hub_cache});
  }
  if (summary) output.table(error_table(outputs));
  CommonOptions without_reports = common;
  without_reports.reports.clear();
  emit(output, without_reports, io);
}

}  // namespace ropewalk::tools
