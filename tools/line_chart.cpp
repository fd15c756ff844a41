#include "tools/line_chart.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "tools/escape.h"
#include "tools/svg.h"
#include "tools/units.h"

namespace ropewalk::tools {
namespace {

constexpr double kWidth = 480, kLeft = 62, kRight = 466, kTop = 64, kPlot = 210;

/// "8k", "1000": positions and contexts.
std::string count_mark(double value) {
  const auto n = static_cast<long long>(std::llround(value));
  return n >= 1024 && n % 1024 == 0 ? std::to_string(n / 1024) + "k" : number_text(value, 4);
}

/// One axis: where values stand and which of them are marked.
class Axis {
 public:
  Axis(double from, double to, bool logarithmic) : from_(from), to_(to), log_(logarithmic) {}

  void take(double value) {
    if (!std::isfinite(value) || (log_ && !(value > 0))) return;
    low_ = std::min(low_, value), high_ = std::max(high_, value);
  }
  bool empty() const { return low_ > high_; }
  bool shows(double value) const {
    return std::isfinite(value) && (!log_ || value > 0) && value >= low_ && value <= high_;
  }
  /// Whole powers of `base`, or a little room.
  void widen_to_powers(double base) {
    low_ = std::pow(base, std::floor(std::log(low_) / std::log(base) + 1e-9));
    high_ = std::pow(base, std::ceil(std::log(high_) / std::log(base) - 1e-9));
    if (low_ == high_) high_ *= base;
  }
  void widen() {
    const double room = high_ > low_ ? 0.05 * (high_ - low_) : std::max(std::abs(high_) * 0.1, 1e-3);
    low_ -= low_ >= 0 && low_ < room ? low_ : room;
    high_ += room;
  }
  void narrow_to_values() {
    if (low_ == high_) widen();
  }

  double at(double value) const {
    const double share = log_ ? std::log(value / low_) / std::log(high_ / low_) : (value - low_) / (high_ - low_);
    return from_ + (to_ - from_) * share;
  }
  /// At most about six, round. `whole`: nothing lies between whole numbers.
  std::vector<double> marks(double base, bool whole) const {
    std::vector<double> out;
    if (log_) {
      const int first = int(std::ceil(std::log(low_) / std::log(base) - 1e-9)),
                last = int(std::floor(std::log(high_) / std::log(base) + 1e-9)),
                step = std::max(1, (last - first + 5) / 6);
      for (int power = first; power <= last; power += step) out.push_back(std::pow(base, power));
      return out;
    }
    const double rough = (high_ - low_) / 5, decade = std::pow(10, std::floor(std::log10(rough)));
    double step = (rough / decade < 1.5 ? 1 : rough / decade < 3.5 ? 2 : rough / decade < 7.5 ? 5 : 10) * decade;
    if (whole) step = std::max(step, 1.0);
    for (double value = std::ceil(low_ / step) * step; value <= high_ + step * 1e-9; value += step)
      out.push_back(std::abs(value) < step * 1e-9 ? 0 : value);
    return out;
  }

 private:
  double from_, to_;
  bool log_;
  double low_ = std::numeric_limits<double>::infinity(), high_ = -low_;
};

class Plot {
 public:
  explicit Plot(const LineChart& chart)
      : chart_(chart), x_(kLeft, kRight, chart.log_x), y_(kTop + kPlot, kTop, chart.log_y) {
    for (const LineChart::Curve& curve : chart.curves)
      for (const auto& [x, y] : curve.points)
        if (std::isfinite(y) && (!chart.log_y || y > 0)) x_.take(x), y_.take(y);
    if (x_.empty() || y_.empty()) return;
    if (chart.level) y_.take(chart.level->at);
    x_.narrow_to_values();
    if (chart.log_y) y_.widen_to_powers(10);
    else y_.widen();
  }

  Drawing draw() {
    text(kLeft - 48, 22, chart_.title, "title");
    text(kLeft - 48, 46, chart_.y_axis, "small");
    double bottom = kTop + kPlot;
    if (x_.empty() || y_.empty()) {
      text(kLeft, kTop + kPlot / 2, chart_.log_y ? "every value is 0 or none was measured" : "nothing was measured",
           "");
    } else {
      axes();
      marks();
      for (std::size_t index = 0; index < chart_.curves.size(); ++index) curve(index);
      bottom += 40;
      text((kLeft + kRight) / 2, bottom, chart_.x_axis, "small middle");
    }
    bottom = legend(bottom + 22);
    return {chart_.title, kWidth, bottom, svg_image(chart_.title, kWidth, bottom, body_)};
  }

 private:
  void text(double x, double y, const std::string& words, const std::string& kind) {
    body_ += "<text x=\"" + svg_px(x) + "\" y=\"" + svg_px(y) + "\"" + (kind.empty() ? "" : " class=\"" + kind + "\"") +
             ">" + xml_text(words) + "</text>\n";
  }
  void line(double x1, double y1, double x2, double y2, const std::string& kind) {
    body_ += "<line class=\"" + kind + "\" x1=\"" + svg_px(x1) + "\" y1=\"" + svg_px(y1) + "\" x2=\"" + svg_px(x2) +
             "\" y2=\"" + svg_px(y2) + "\"/>\n";
  }
  void axes() {
    body_ += "<rect class=\"frame\" x=\"" + svg_px(kLeft) + "\" y=\"" + svg_px(kTop) + "\" width=\"" +
             svg_px(kRight - kLeft) + "\" height=\"" + svg_px(kPlot) + "\"/>\n";
    for (const double value : y_.marks(10, false)) {
      line(kLeft, y_.at(value), kRight, y_.at(value), "grid");
      text(kLeft - 6, y_.at(value) + 4, number_text(value, 6), "small end");
    }
    for (const double value : x_.marks(2, true)) {
      line(x_.at(value), kTop + kPlot, x_.at(value), kTop + kPlot + 4, "tick");
      text(x_.at(value), kTop + kPlot + 18, count_mark(value), "small middle");
    }
  }
  void marks() {
    if (chart_.upright && x_.shows(chart_.upright->at)) {
      const double x = x_.at(chart_.upright->at);
      line(x, kTop, x, kTop + kPlot, "once");
      const bool left = x > (kLeft + kRight) / 2;
      text(x + (left ? -6 : 6), kTop + 14, chart_.upright->name, left ? "small end" : "small");
    }
    if (chart_.level && y_.shows(chart_.level->at)) {
      const double y = y_.at(chart_.level->at);
      line(kLeft, y, kRight, y, "once");
      text(kRight - 6, y - 5, chart_.level->name, "small end");
    }
  }
  static std::string kind_of(std::size_t index) { return "c" + std::to_string(index % kSvgColors); }
  void curve(std::size_t index) {
    std::string points, dots;
    std::size_t shown = 0;
    for (const auto& [x, y] : chart_.curves[index].points) {
      if (!x_.shows(x) || !y_.shows(y)) continue;
      const std::string at_x = svg_px(x_.at(x)), at_y = svg_px(y_.at(y));
      points += (points.empty() ? "" : " ") + at_x + "," + at_y;
      dots += "<circle class=\"dot " + kind_of(index) + "\" cx=\"" + at_x + "\" cy=\"" + at_y + "\" r=\"2.60\"/>\n";
      ++shown;
    }
    body_ += "<polyline class=\"curve " + kind_of(index) + "\" points=\"" + points + "\"/>\n";
    if (shown <= 24) body_ += dots;
  }
  double legend(double y) {
    if (chart_.curves.size() < 2) return y - 8;
    for (std::size_t index = 0; index < chart_.curves.size(); ++index, y += 18) {
      line(kLeft, y - 4, kLeft + 28, y - 4, "curve " + kind_of(index));
      text(kLeft + 36, y, ending(chart_.curves[index].name, 52), "small");
    }
    return y;
  }

  const LineChart& chart_;
  Axis x_, y_;
  std::string body_;
};

}  // namespace

Drawing line_chart(const LineChart& chart) { return Plot(chart).draw(); }

}  // namespace ropewalk::tools
