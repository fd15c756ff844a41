#include "tools/rope_chart.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "lib/rope_bands.h"
#include "tools/escape.h"
#include "tools/svg.h"
#include "tools/units.h"

namespace ropewalk::tools {
namespace {

constexpr double kWidth = 960, kLeft = 78, kRight = 872, kPlot = 330, kSlowPlot = 150;
constexpr double kDash = 12;  // half of the dash that stands for a curve of one pair
// longest label of a legend's line at 13 px: about 7 px a letter in kRight - kLeft - 40
constexpr std::size_t kLegendLetters = 104;

/// "a, b; c" over lines of at most that many letters.
std::vector<std::string> wrapped(const std::string& text) {
  std::vector<std::string> lines(1);
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t comma = std::min(text.find(", ", at), text.find("; ", at)),
                      end = comma == std::string::npos ? text.size() : comma + 2;
    std::string part = text.substr(at, end - at);
    if (!lines.back().empty() && lines.back().size() + part.size() > kLegendLetters) lines.emplace_back();
    lines.back() += part;
    at = end;
  }
  return lines;
}

/// A scale by logarithms, from the top (high) to the bottom (low) of a plot.
struct Scale {
  double low, high, top, height;
  double y(double value) const {
    const double at = std::clamp(value, low, high);
    return top + height * (std::log10(high) - std::log10(at)) / (std::log10(high) - std::log10(low));
  }
};

/// Readings that turn every pair of one kind of layer alike.
struct Curve {
  RopeSpec spec;
  RopeTable table;
  std::vector<std::pair<std::string, std::string>> words;  // a rope in words, and who reads it so
};

/// Legend and both plots of one kind of layer.
class Panel {
 public:
  /// `index`: among the kinds of layers. `top`: where the legend begins.
  Panel(const std::vector<RopeGroup>& readings, const std::string& layer_type, std::size_t index, double top,
        const RopeChartLabels& labels)
      : labels_(labels), layer_type_(layer_type), suffix_(index == 0 ? "" : "-layers-" + std::to_string(index)) {
    cursor_ = top;
    collect(readings);
  }

  /// Past the last axis.
  double bottom() const { return (scales_ ? slow_.top + slow_.height : frequency_.top + frequency_.height) + 56; }

  std::string draw(bool named) {
    legend(named);
    const double top = cursor_ + 46;
    frequency_ = {std::pow(10, std::floor(std::log10(least_))), std::pow(10, std::ceil(std::log10(most_))), top, kPlot};
    slow_ = {least_slowed_ / slow_headroom(), most_slowed_ * slow_headroom(), top + kPlot + 78, kSlowPlot};
    bands();
    frequency_axis();
    if (scales_) slow_axis();
    curves();
    return body_;
  }

 private:
  /// nullptr: of this kind it says nothing. A rope of no kind is one for all layers.
  const RopeSpec* spec_of(const RopeGroup& group) const {
    for (const formats::WantedLayer& layer : group.rope.layers)
      if (layer.layer_type == layer_type_ || layer.layer_type.empty()) return &layer.spec;
    return nullptr;
  }
  double x(std::size_t pair) const {
    if (pairs_.size() == 1) return (kLeft + kRight) / 2;
    const std::size_t last = std::max<std::size_t>(1, pairs_.size() - 1);
    return kLeft + (kRight - kLeft) * double(pair) / double(last);
  }
  double slow_headroom() const { return std::max(1.02, std::pow(most_slowed_ / least_slowed_, 0.08)); }

  /// Curves with their tables, and the ranges of both plots.
  void collect(const std::vector<RopeGroup>& readings) {
    for (const RopeGroup& reading : readings) {
      if (const RopeSpec* spec = spec_of(reading)) add(reading.name, *spec);
      else
        without_.push_back(reading.name + (layer_type_.empty() ? ", whose kinds of layers have ropes of their own"
                                                               : ", which has no layers of this kind"));
    }
    const RopeSpec& first = curves_.front().spec;
    original_ = trained_context(first, labels_.context > 0 ? labels_.context : std::max(1, first.context));
    pairs_ = rope_pairs(first, original_, labels_.sequence_length);
    for (const RopePair& pair : pairs_)
      if (pair.before > 0) least_ = std::min(least_, pair.before);
    for (const Curve& curve : curves_)
      for (std::size_t pair = 0; pair < curve.table.inv_freq.size(); ++pair) {
        const double f = curve.table.inv_freq[pair];
        if (!(f > 0)) continue;
        least_ = std::min(least_, f), most_ = std::max(most_, f);
        if (pair >= pairs_.size() || !(pairs_[pair].before > 0)) continue;
        most_slowed_ = std::max(most_slowed_, pairs_[pair].before / f);
        least_slowed_ = std::min(least_slowed_, pairs_[pair].before / f);
      }
    least_ = std::clamp(least_, 1e-12, 0.5);  // one pair, of 1 radian per token: a decade all the same
    most_ = std::min(most_, 1e6);
    scales_ = most_slowed_ > 1 + 1e-6 || least_slowed_ < 1 - 1e-6;
    most_slowed_ = std::clamp(most_slowed_, 1.25, 1e9), least_slowed_ = std::clamp(least_slowed_, 1e-9, 1.0);
  }
  void add(const std::string& who, const RopeSpec& spec) {
    auto curve = std::find_if(curves_.begin(), curves_.end(), [&](const Curve& one) {
      return formats::compare_rope(one.spec, spec, labels_.sequence_length).same_rotation();
    });
    if (curve == curves_.end())
      curve = curves_.insert(curves_.end(), Curve{spec, rope_table(spec, labels_.sequence_length), {}});
    RopeSpec said = spec;  // what is meant leaves a factor that follows from the method out
    if (!said.attention_factor) said.attention_factor = rope_table(spec, labels_.sequence_length).attention_factor;
    const std::string words = describe(said);
    for (auto& [known, names] : curve->words)
      if (known == words) {
        names += ", " + who;
        return;
      }
    curve->words.emplace_back(words, who);
  }

  void text(double at_x, double at_y, const std::string& words, const std::string& attributes = "") {
    body_ += "<text x=\"" + svg_px(at_x) + "\" y=\"" + svg_px(at_y) + "\"" +
             (attributes.empty() ? "" : " " + attributes) + ">" + xml_text(words) + "</text>\n";
  }
  void line(double x1, double y1, double x2, double y2, const std::string& kind) {
    body_ += "<line class=\"" + kind + "\" x1=\"" + svg_px(x1) + "\" y1=\"" + svg_px(y1) + "\" x2=\"" + svg_px(x2) +
             "\" y2=\"" + svg_px(y2) + "\"/>\n";
  }

  void legend(bool named) {
    if (named) {
      text(kLeft, cursor_, ending(layer_type_, 74), "class=\"title\"");
      cursor_ += 24;
    }
    const auto entry = [&](const std::string& kind, const std::string& words) {
      if (!kind.empty()) line(kLeft, cursor_ - 4, kLeft + 28, cursor_ - 4, kind);
      for (const std::string& part : wrapped(words)) {
        text(kLeft + 38, cursor_, part);
        cursor_ += 18;
      }
    };
    entry("curve before", "before: theta " + number_text(curves_[0].spec.theta, 8) + ", unscaled");
    for (std::size_t index = 0; index < curves_.size(); ++index) {
      const Curve& curve = curves_[index];
      std::string words;
      for (const auto& [rope, names] : curve.words) words += (words.empty() ? "" : "; ") + names + ": " + rope;
      const std::string at = " in a sequence of " + std::to_string(labels_.sequence_length) + " tokens";
      entry(kind_of(index), words + (depends_on_length(curve.spec) ? at : ""));
    }
    for (const std::string& one : without_) entry("", "no curve: " + one);
    for (const std::string& one : labels_.without) entry("", "no curve: " + one);
  }
  std::string kind_of(std::size_t curve) const { return "curve c" + std::to_string(curve % kSvgColors); }

  /// Stretches of pairs that the first rope treats alike; a stretch begins half a pair early.
  void bands() {
    for (std::size_t from = 0; from < pairs_.size();) {
      std::size_t to = from;
      while (to < pairs_.size() && pairs_[to].band == pairs_[from].band) ++to;
      const double left = from == 0 ? kLeft : (x(from - 1) + x(from)) / 2;
      const double right = to == pairs_.size() ? kRight : (x(to - 1) + x(to)) / 2;
      const std::string name = rope_band_name(pairs_[from].band);
      for (const Scale* plot : {&frequency_, &slow_})
        if (plot == &frequency_ || scales_)
          body_ += "<rect class=\"band " + name + "\" x=\"" + svg_px(left) + "\" y=\"" + svg_px(plot->top) +
                   "\" width=\"" + svg_px(right - left) + "\" height=\"" + svg_px(plot->height) + "\"/>\n";
      if (right - left > 7.5 * double(name.size()))
        text((left + right) / 2, frequency_.top - 8, name, "class=\"small\" text-anchor=\"middle\"");
      from = to;
    }
  }

  void frame(const Scale& plot) {
    body_ += "<rect class=\"frame\" x=\"" + svg_px(kLeft) + "\" y=\"" + svg_px(plot.top) + "\" width=\"" +
             svg_px(kRight - kLeft) + "\" height=\"" + svg_px(plot.height) + "\"/>\n";
  }
  void pair_axis(const Scale& plot, bool named) {
    const double y = plot.top + plot.height;
    const std::size_t step = pairs_.size() > 128 ? 32 : pairs_.size() > 40 ? 8 : pairs_.size() > 12 ? 4 : 1;
    for (std::size_t pair = 0; pair < pairs_.size(); ++pair) {
      const bool last = pair + 1 == pairs_.size();
      if (!last && (pair % step != 0 || pair + step / 2 >= pairs_.size())) continue;
      line(x(pair), y, x(pair), y + 4, "tick");
      text(x(pair), y + 18, std::to_string(pair), "class=\"small\" text-anchor=\"middle\"");
    }
    if (named) text((kLeft + kRight) / 2, y + 38, "pair", "text-anchor=\"middle\"");
  }

  void frequency_axis() {
    frame(frequency_);
    const int lowest = int(std::lround(std::log10(frequency_.low))),
              highest = int(std::lround(std::log10(frequency_.high)));
    for (int decade = lowest; decade <= highest; ++decade) {
      const double value = std::pow(10, decade), y = frequency_.y(value);
      if (decade != lowest && decade != highest) line(kLeft, y, kRight, y, "grid");
      text(kLeft - 8, y + 4, decade == 0 ? "1" : "1e" + std::to_string(decade), "class=\"small\" text-anchor=\"end\"");
      text(kRight + 8, y + 4, tokens_text(2 * std::numbers::pi / value), "class=\"small\"");
    }
    text(kLeft - 62, frequency_.top - 26, "radians per token");
    text(kRight + 78, frequency_.top - 26, "tokens per turn", "text-anchor=\"end\"");
    const double turn = 2 * std::numbers::pi / original_;
    if (turn > frequency_.low && turn < frequency_.high) {
      const double y = frequency_.y(turn);
      line(kLeft, y, kRight, y, "once");
      // at the end of the line that the curves, which fall, are further from
      const auto above = std::size_t(
          std::count_if(pairs_.begin(), pairs_.end(), [&](const RopePair& pair) { return pair.before > turn; }));
      const bool left = 2 * above >= pairs_.size();
      text(left ? kLeft + 8 : kRight - 8, y - 6, "one turn in the original " + std::to_string(original_) + " tokens",
           left ? "class=\"small\"" : "class=\"small\" text-anchor=\"end\"");
    }
    pair_axis(frequency_, !scales_);
  }
  /// Three digits: "6.28", "62.8", "628", "6.28 k", "62.8 k", "6.28 M".
  static std::string tokens_text(double tokens) {
    int thousands = 0;
    for (; tokens >= 999.5 && thousands < 4; tokens /= 1000) ++thousands;
    constexpr const char* kUnits[] = {"", " k", " M", " G", " T"};
    return number_text(tokens, 3) + kUnits[thousands];
  }

  void slow_axis() {
    frame(slow_);
    text(kLeft - 62, slow_.top - 12,
         std::string("slower by (before / after)") + (least_slowed_ < 1 / 1.02 ? "; below 1x it turns faster" : ""));
    // about five marks, at powers of two, 1x among them
    const int most = int(std::floor(std::log2(most_slowed_) + 1e-9)),
              least = -int(std::floor(-std::log2(least_slowed_) + 1e-9)), step = std::max(1, (most - least + 4) / 5);
    for (int power = least / step * step; power <= most; power += step) {
      const double value = std::exp2(power), y = slow_.y(value);
      line(kLeft, y, kRight, y, "grid");
      const std::string mark = power < -2 ? "1/" + number_text(1 / value, 4) : number_text(value, value < 1e6 ? 6 : 3);
      text(kLeft - 8, y + 4, mark + "x", "class=\"small\" text-anchor=\"end\"");
    }
    pair_axis(slow_, true);
  }

  void curve(const std::string& id, const std::string& kind, const Scale& plot, const std::vector<double>& values) {
    body_ += "<polyline id=\"" + id + suffix_ + "\" class=\"" + kind + "\" points=\"";
    bool first = true;
    for (std::size_t pair = 0; pair < std::min(values.size(), pairs_.size()); ++pair) {
      if (!(values[pair] > 0)) continue;  // a pair that stands still has no place on a logarithmic scale
      const double y = plot.y(values[pair]);
      body_ += first ? "" : " ";
      if (pairs_.size() == 1)
        body_ += svg_px(x(pair) - kDash) + "," + svg_px(y) + " " + svg_px(x(pair) + kDash) + "," + svg_px(y);
      else body_ += svg_px(x(pair)) + "," + svg_px(y);
      first = false;
    }
    body_ += "\"/>\n";
  }
  void curves() {
    std::vector<double> before;
    for (const RopePair& pair : pairs_) before.push_back(pair.before);
    for (std::size_t index = 0; index < curves_.size(); ++index) {
      const std::vector<double>& after = curves_[index].table.inv_freq;
      std::vector<double> slowed;
      for (std::size_t pair = 0; pair < std::min(after.size(), before.size()); ++pair)
        slowed.push_back(after[pair] > 0 ? before[pair] / after[pair] : 0);
      curve("curve-" + std::to_string(index), kind_of(index), frequency_, after);
      if (scales_) curve("slow-" + std::to_string(index), kind_of(index), slow_, slowed);
    }
    curve("before", "curve before", frequency_, before);
  }

  const RopeChartLabels& labels_;
  std::string layer_type_, suffix_;
  std::vector<Curve> curves_;
  std::vector<std::string> without_;  // readings without a rope for this kind
  int original_ = 1;
  std::vector<RopePair> pairs_;  // of the first curve
  bool scales_ = false;  // some reading turns some pair otherwise than before: the lower plot has something to show
  double least_ = 1, most_ = 1, least_slowed_ = 1, most_slowed_ = 1, cursor_ = 0;
  Scale frequency_{}, slow_{};
  std::string body_;
};

std::string drawing(const std::string& title, double height, const std::string& body) {
  return svg_image("RoPE of " + title, kWidth, height, body);
}

std::string heading(const std::string& words) {
  return "<text x=\"" + svg_px(kLeft) + "\" y=\"30.00\" class=\"title\">" + xml_text(words) + "</text>\n";
}

}  // namespace

std::string rope_chart(const std::vector<RopeGroup>& readings, const RopeChartLabels& labels) {
  if (readings.empty()) return drawing(labels.title, 60, heading("no engine reads " + ending(labels.title, 60)));
  std::string body = heading("RoPE of " + ending(labels.title, 74));  // bold at 16 px: up to 11 px a letter
  double at = 54;
  const std::vector<formats::WantedLayer>& layers = readings.front().rope.layers;
  for (std::size_t index = 0; index < layers.size(); ++index) {
    Panel panel(readings, layers[index].layer_type, index, at, labels);
    body += panel.draw(!layers[index].layer_type.empty());
    at = panel.bottom() + (index + 1 < layers.size() ? 24 : 0);
  }
  return drawing(labels.title, at, body);
}

}  // namespace ropewalk::tools
