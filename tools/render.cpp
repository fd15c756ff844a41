#include "tools/render.h"

#include <algorithm>
#include <set>

#include "tools/escape.h"
#include "tools/one_line.h"

namespace ropewalk::tools {
namespace {

/// Columns a terminal needs for UTF-8 text: code points, close enough for what we print.
std::size_t width(const std::string& text) {
  return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; }));
}

std::string padded(const std::string& text, std::size_t to, bool right) {
  const std::string space(to > width(text) ? to - width(text) : 0, ' ');
  return right ? space + text : text + space;
}

/// What a terminal is shown of a cell: `|` alone would end it.
std::string plain_cell(const std::string& text) {
  std::string out;
  for (const char c : one_line(text)) out += c == '|' ? std::string("\\|") : std::string(1, c);
  return out;
}

/// The table with its cells as `cell` writes them.
std::string table_of(const Table& table, std::string (*cell)(const std::string&)) {
  std::vector<std::size_t> widths;
  for (const auto& column : table.columns) widths.push_back(std::max<std::size_t>(3, width(cell(column.heading))));
  for (const auto& row : table.rows)
    for (std::size_t c = 0; c < row.size(); ++c) widths[c] = std::max(widths[c], width(cell(row[c])));
  std::string out = "|", rule = "|";
  for (std::size_t c = 0; c < widths.size(); ++c) {
    const bool right = table.columns[c].number;
    out += " " + padded(cell(table.columns[c].heading), widths[c], right) + " |";
    rule += " " + std::string(widths[c] - (right ? 1 : 0), '-') + (right ? ": |" : " |");
  }
  out += "\n" + rule + "\n";
  for (const auto& row : table.rows) {
    out += "|";
    for (std::size_t c = 0; c < row.size(); ++c)
      out += " " + padded(cell(row[c]), widths[c], table.columns[c].number) + " |";
    out += "\n";
  }
  return out;
}

}  // namespace

std::vector<std::string> each_once(const std::vector<std::string>& lines) {
  std::vector<std::string> out;
  std::set<std::string> seen;
  for (const std::string& line : lines)
    if (seen.insert(line).second) out.push_back(line);
  return out;
}

Json envelope(const Output& output) {
  Json json = {{"ropewalk", ROPEWALK_VERSION},
               {"schema", 1},
               {"command", output.command},
               {"source", output.source},
               {"warnings", each_once(output.warnings)}};
  for (const auto& [key, value] : output.body.items()) json[key] = value;
  return json;
}

std::string json_text(const Json& value, int indent) {
  return value.dump(indent, ' ', false, Json::error_handler_t::replace) + "\n";
}

std::string markdown_table(const Table& table) { return table_of(table, markdown_text); }

std::string render_text(const Output& output) {
  std::string out;
  bool after_table = false;
  for (const auto& block : output.blocks) {
    if (const auto* text = std::get_if<std::string>(&block)) {
      out += (after_table ? "\n" : "") + plain_lines(*text) + "\n";
      after_table = false;
    } else {
      out += (out.empty() ? "" : "\n") + table_of(std::get<Table>(block), plain_cell);
      after_table = true;
    }
  }
  return out;
}

std::string render_markdown(const Output& output) {
  std::string out = "# ropewalk " + output.command + "\n";
  for (const std::string& warning : output.warnings) out += "\n> warning: " + markdown_text(warning) + "\n";
  for (const auto& block : output.blocks) {
    if (const auto* text = std::get_if<std::string>(&block))
      out += "\n" + (text->find('\n') == std::string::npos ? markdown_text(*text) : markdown_fence(*text)) + "\n";
    else out += "\n" + markdown_table(std::get<Table>(block));
  }
  return out + "\n*ropewalk " ROPEWALK_VERSION "*\n";
}

std::string render_csv(const Output& output) {
  std::string out;
  const auto add = [&](const Table& table) {
    if (!out.empty()) out += "\r\n";
    for (std::size_t c = 0; c < table.columns.size(); ++c) out += (c ? "," : "") + csv_field(table.columns[c].heading);
    out += "\r\n";
    for (const auto& row : table.rows) {
      for (std::size_t c = 0; c < row.size(); ++c) out += (c ? "," : "") + csv_field(row[c]);
      out += "\r\n";
    }
  };
  if (output.csv) {
    add(*output.csv);
    return out;
  }
  for (const auto& block : output.blocks)
    if (const auto* table = std::get_if<Table>(&block)) add(*table);
  return out;
}

std::string render_junit(const Output& output) {
  std::vector<Check> checks = output.checks;
  if (checks.empty()) checks.push_back({output.command, true, ""});
  const auto failed = std::ranges::count(checks, false, &Check::pass);
  const auto skipped = std::ranges::count(checks, true, &Check::skipped);
  const std::string kind = output.error ? "error" : "failure";
  std::string out = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n  <testsuite name=\"ropewalk " +
                    output.command + "\" tests=\"" + std::to_string(checks.size()) + "\" failures=\"" +
                    std::to_string(output.error ? 0 : failed) + "\" errors=\"" +
                    std::to_string(output.error ? failed : 0) + "\"" +
                    (skipped > 0 ? " skipped=\"" + std::to_string(skipped) + "\"" : "") + ">\n";
  for (const Check& check : checks) {
    out += "    <testcase classname=\"ropewalk." + output.command + "\" name=\"" + xml_text(check.name) + "\"";
    out += check.pass && !check.skipped ? "/>\n"
                                        : "><" + (check.skipped ? "skipped" : kind) + " message=\"" +
                                              xml_text(check.message) + "\"/></testcase>\n";
  }
  std::string warnings;
  for (const std::string& warning : output.warnings) warnings += "warning: " + xml_text(warning) + "\n";
  if (!warnings.empty()) out += "    <system-out>" + warnings + "</system-out>\n";
  return out + "  </testsuite>\n</testsuites>\n";
}

std::string aligned(const std::vector<std::pair<std::string, std::string>>& pairs) {
  std::size_t widest = 0;
  for (const auto& [name, value] : pairs) widest = std::max(widest, width(name));
  std::string out;
  for (const auto& [name, value] : pairs)
    out += (out.empty() ? "" : "\n") + (value.empty() ? name : padded(name, widest + 2, false) + one_line(value));
  return out;
}

}  // namespace ropewalk::tools
