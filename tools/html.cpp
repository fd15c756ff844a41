#include <algorithm>
#include <string_view>

#include "tools/escape.h"
#include "tools/render.h"
#include "tools/svg.h"
#include "tools/units.h"

namespace ropewalk::tools {
namespace {

/// Colours are the drawings' own (svg_style), so that both turn dark together. Wide tables and drawings scroll within their box: the
/// page itself never does.
constexpr const char* kStyle = R"(
:root{color-scheme:light dark;--paper:#fff;--ink:#1c2024;--quiet:#5b6168;--line:#d5d9dd;--box:#f5f6f7;--good:#0f7b4f;--bad:#b3261e}
@media (prefers-color-scheme:dark){:root{--paper:#15181c;--ink:#e6e8ea;--quiet:#a2a8af;--line:#363b41;--box:#1d2126;--good:#54d3a0;--bad:#ff8a80}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:66rem;padding:1rem;background:var(--paper);color:var(--ink);font:16px/1.5 system-ui,sans-serif}
h1{font-size:1.4rem;margin:.2rem 0;overflow-wrap:anywhere}
.verdict{font-weight:700;margin:.2rem 0 1rem}
.pass{color:var(--good)}.fail{color:var(--bad)}
tr:has(>.fail)>td:first-child{color:var(--bad)}
.warning{border-left:4px solid var(--bad);padding:.2rem .8rem;margin:.5rem 0;background:var(--box)}
p{white-space:pre-wrap}
p,td,.warning{overflow-wrap:anywhere}
.scroll{overflow-x:auto;margin:1rem 0}
pre{background:var(--box);border-radius:6px;padding:.8rem;white-space:pre-wrap;overflow-wrap:anywhere;font-size:.85rem}
table{border-collapse:collapse;font-variant-numeric:tabular-nums}
th,td{padding:.3rem .7rem;border-bottom:1px solid var(--line);text-align:left;overflow-wrap:normal}
.number{text-align:right}
.number,.short{white-space:nowrap}
th:first-child,td:first-child{white-space:normal;overflow-wrap:anywhere}
th{color:var(--quiet);font-weight:600}
table:has(td.pass,td.fail) :is(th,td):last-child{position:sticky;right:0;background:var(--paper)}
th:first-child,td:first-child{min-width:8rem}
.drawings{display:flex;flex-wrap:wrap;gap:1rem;margin:1rem 0}
figure{margin:0;border:1px solid var(--line);border-radius:6px;overflow-x:auto;max-width:100%}
figure svg{display:block;max-width:100%;height:auto}
figure.wide svg{max-width:none}
footer{color:var(--quiet);font-size:.85rem;margin-top:2rem}
@media (min-width:66rem){figure.small{flex:1 1 30rem}figure.small svg{width:100%}}
@media print{figure{break-inside:avoid}}
)";

/// Broader than a phone by half: scrolled rather than shrunk to letters nobody can read.
constexpr double kWide = 560;
/// What a narrower one may grow by where there is room: letters of the page's size.
constexpr double kGrowth = 1.35;
/// Letters of a cell that is not worth breaking.
constexpr std::size_t kShort = 20;

/// "FAIL at level weights", "weights    FAIL  1 of 39 tensors errs", "  rope  FAIL  ...", "FAILED ppl is": what a reader
/// looks for.
bool tells_of_failure(std::string_view line) { return line.starts_with("FAIL") || line.find("  FAIL  ") != line.npos; }

std::string lines_of(const std::string& text) {
  std::string out;
  for (std::size_t at = 0; at <= text.size();) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    const std::string line = text.substr(at, end - at);
    out += (at > 0 ? "\n" : "") +
           (tells_of_failure(line) ? "<span class=\"fail\">" + xml_text(line) + "</span>" : xml_text(line));
    at = end + 1;
  }
  return out;
}

std::string cell(const std::string& text, const Table::Column& column, const char* tag) {
  std::string kind = column.number ? "number" : "";
  if (text == "FAIL" || text == "inconclusive") kind += kind.empty() ? "fail" : " fail";
  if (text == "pass") kind += kind.empty() ? "pass" : " pass";
  if (kind.empty() && text.size() <= kShort) kind = "short";
  return std::string("<") + tag + (kind.empty() ? "" : " class=\"" + kind + "\"") + ">" + xml_text(text) + "</" + tag +
         ">";
}

std::string table_html(const Table& table) {
  std::string out = "<div class=\"scroll\"><table>\n<thead><tr>";
  for (const Table::Column& column : table.columns) out += cell(column.heading, column, "th");
  out += "</tr></thead>\n<tbody>\n";
  for (const auto& row : table.rows) {
    out += "<tr>";
    for (std::size_t c = 0; c < row.size(); ++c) out += cell(row[c], table.columns[c], "td");
    out += "</tr>\n";
  }
  return out + "</tbody>\n</table></div>\n";
}

std::string verdict_html(const Output& output) {
  const std::vector<Check>& checks = output.checks;
  if (output.error) return "<p class=\"verdict fail\">ERROR: the command ended without a result</p>\n";
  if (checks.empty()) return "";
  const auto skipped = std::ranges::count(checks, true, &Check::skipped), ran = std::ranges::ssize(checks) - skipped,
             passed = std::ranges::count(checks, true, &Check::pass) - skipped;
  const bool all = passed == ran;
  std::string without;
  for (const Check& check : checks)
    if (check.skipped) without += (without.empty() ? "; " : ", ") + xml_text(check.name);
  if (skipped > 0) without += " not judged";
  return std::string("<p class=\"verdict ") + (all ? "pass\">PASS" : "fail\">FAIL") + ": " + std::to_string(passed) +
         " of " + plural(static_cast<std::uint64_t>(ran), "check") + " passed" + without + "</p>\n";
}

}  // namespace

std::string render_html(const Output& output) {
  const std::string name = "ropewalk " + output.command, of = !output.about.empty() ? ": " + output.about
                                                              : output.source.is_string()
                                                                  ? ": " + output.source.get<std::string>()
                                                                  : "";
  std::string out =
      "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" "
      "content=\"width=device-width, initial-scale=1\">\n<title>" +
      xml_text(name + of) + "</title>\n<style>" + kStyle + "</style>\n</head>\n<body>\n<h1>" + xml_text(name + of) +
      "</h1>\n" + verdict_html(output);
  for (const std::string& warning : each_once(output.warnings))
    out += "<p class=\"warning\">warning: " + xml_text(warning) + "</p>\n";
  if (!output.drawings.empty()) {
    out += "<div class=\"drawings\">\n";
    for (const Drawing& drawing : output.drawings)
      out += (drawing.width > kWide ? std::string("<figure class=\"wide\">")
                                    : "<figure class=\"small\" style=\"max-width:min(100%," +
                                          svg_px(drawing.width * kGrowth) + "px)\">") +
             drawing.svg + "</figure>\n";
    out += "</div>\n";
  }
  for (const auto& block : output.blocks) {
    if (const auto* text = std::get_if<std::string>(&block))
      out += text->find('\n') == std::string::npos
                 ? (tells_of_failure(*text) ? "<p class=\"fail\">" : "<p>") + xml_text(*text) + "</p>\n"
                 : "<pre>" + lines_of(*text) + "</pre>\n";
    else out += table_html(std::get<Table>(block));
  }
  return out + "<footer>ropewalk " ROPEWALK_VERSION "</footer>\n</body>\n</html>\n";
}

std::string render_svg(const Output& output) {
  if (output.drawings.size() == 1) return output.drawings.front().svg;
  double width = 0, top = 0;
  std::string body;
  for (const Drawing& drawing : output.drawings) {
    // an image within an image: only where it stands is added
    body += "<svg y=\"" + svg_px(top) + "\"" + drawing.svg.substr(std::string("<svg").size());
    width = std::max(width, drawing.width), top += drawing.height;
  }
  return svg_image("ropewalk " + output.command, width, top, body);
}

}  // namespace ropewalk::tools
