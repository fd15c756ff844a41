#include "tools/heat_map.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "tools/escape.h"
#include "tools/svg.h"

namespace ropewalk::tools {
namespace {

constexpr double kLeft = 96, kCellWidth = 76, kCellHeight = 30, kTop = 50, kBetween = 72, kLetter = 7.2,
                 kTitleLetter = 9, kMargin = 20, kNarrow = 350;  // a phone's page

/// Colours of 0, 0.5 and 1, dark enough or pale enough for black text on all of them.
std::string color(double share) {
  if (std::isnan(share)) return "rgb(176,176,176)";
  constexpr std::array<std::array<double, 3>, 3> kStops = {{{244, 138, 80}, {240, 236, 224}, {110, 170, 235}}};
  const double at = std::clamp(share, 0.0, 1.0) * 2;
  const std::size_t from = at < 1 ? 0 : 1;
  std::string out = "rgb(";
  for (std::size_t channel = 0; channel < 3; ++channel) {
    const double low = kStops[from][channel], high = kStops[from + 1][channel];
    out += (channel > 0 ? "," : "") + std::to_string(std::lround(low + (high - low) * (at - double(from))));
  }
  return out + ")";
}

std::string words(double x, double y, const std::string& css, const std::string& text) {
  return "<text x=\"" + svg_px(x) + "\" y=\"" + svg_px(y) + "\" class=\"" + css + "\">" + xml_text(text) + "</text>\n";
}

std::string percent(double share) { return std::isnan(share) ? "-" : std::to_string(std::lround(share * 100)) + "%"; }

/// `text` in lines that fit into `width`, broken between words, or within one that is longer than a line.
std::vector<std::string> lines_of(const std::string& text, double width, double letter) {
  const auto most = static_cast<std::size_t>((width - 2 * kMargin) / letter);
  std::vector<std::string> lines;
  for (std::size_t at = 0; at < text.size();) {
    std::size_t end = std::min(at + most, text.size());
    if (end < text.size()) {
      const std::size_t space = text.rfind(' ', end);
      if (space != std::string::npos && space > at) end = space;
      else
        while (end > at + 1 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;  // within a character
    }
    lines.push_back(text.substr(at, end - at));
    at = end + (end < text.size() && text[end] == ' ' ? 1 : 0);
  }
  return lines;
}

/// Lines below each other from y on; the y of the last.
double add_lines(const std::vector<std::string>& lines, double y, double height, const char* css, std::string& out) {
  for (std::size_t line = 0; line < lines.size(); ++line)
    out += words(kMargin, y + double(line) * height, css, lines[line]);
  return y + double(std::max<std::size_t>(1, lines.size()) - 1) * height;
}

/// From `top` on; moves it to where the panel ends.
std::string draw(const HeatMap& map, double width, double& top, const std::string& column_axis,
                 const std::string& row_axis) {
  std::string out;
  top = add_lines(lines_of(map.title, width, kLetter), top, 17, "name", out);
  out += words(kLeft - 8, top + 18, "axis end", row_axis);
  for (std::size_t column = 0; column < map.columns.size(); ++column)
    out += words(kLeft + (double(column) + 0.5) * kCellWidth, top + 18, "axis middle", map.columns[column]);
  for (std::size_t row = 0; row < map.rows.size(); ++row) {
    const double y = top + 26 + double(row) * kCellHeight;
    out += words(kLeft - 8, y + 20, "axis end", map.rows[row]);
    for (std::size_t column = 0; column < map.columns.size(); ++column) {
      const double x = kLeft + double(column) * kCellWidth, share = map.share[row][column];
      out += "<rect class=\"cell\" x=\"" + svg_px(x) + "\" y=\"" + svg_px(y) + "\" width=\"" + svg_px(kCellWidth - 2) +
             "\" height=\"" + svg_px(kCellHeight - 2) + "\" fill=\"" + color(share) + "\"/>\n" +
             words(x + kCellWidth / 2 - 1, y + 19, "value middle", percent(share));
    }
  }
  top += 26 + double(map.rows.size()) * kCellHeight;
  return out + words(kLeft + double(map.columns.size()) * kCellWidth / 2, top + 16, "axis middle", column_axis);
}

}  // namespace

Drawing heat_maps(const std::string& title, const std::string& column_axis, const std::string& row_axis,
                  const std::vector<HeatMap>& maps) {
  double width = kNarrow;  // of cells alone, which cannot be broken
  for (const HeatMap& map : maps) width = std::max(width, kLeft + 24 + double(map.columns.size()) * kCellWidth);
  std::string body;
  double top = add_lines(lines_of(title, width, kTitleLetter), 30, 20, "title", body) + kTop - 6;
  for (const HeatMap& map : maps) {
    body += draw(map, width, top, column_axis, row_axis);
    top += kBetween;
  }
  const double height = top - kBetween + 30;
  return {title, width, height, svg_image(title, width, height, body)};
}

}  // namespace ropewalk::tools
