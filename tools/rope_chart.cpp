#include "tools/rope_chart.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "lib/rope_bands.h"
#include "tools/one_line.h"
#include "tools/units.h"

namespace ropewalk::tools {
namespace {

constexpr double kWidth = 960, kLeft = 78, kRight = 872, kPlot = 330, kSlowPlot = 150;
constexpr double kDash = 12;  // half of the dash that stands for a curve of one pair
constexpr int kColors = 8;
// longest label of a legend's line at 13 px: about 7 px a letter in kRight - kLeft - 40
constexpr std::size_t kLegendLetters = 104;

std::string escaped(const std::string& text) {
  std::string out;
  for (const char c : one_line(text)) {
    if (c == '&') out += "&amp;";
    else if (c == '<') out += "&lt;";
    else if (c == '>') out += "&gt;";
    else if (c == '"') out += "&quot;";
    else out += c;
  }
  return out;
}

std::string px(double value) { return fixed_text(value, 2); }

/// The end of a long path, which tells more than its beginning.
std::string shortened(const std::string& text, std::size_t letters) {
  std::size_t from = text.size() > letters ? text.size() - letters : 0;
  while (from > 0 && from < text.size() && (static_cast<unsigned char>(text[from]) & 0xC0) == 0x80) ++from;  // UTF-8
  return from == 0 ? text : "..." + text.substr(from);
}

/// "a, b, c" over lines of at most that many letters.
std::vector<std::string> wrapped(const std::string& text) {
  std::vector<std::string> lines(1);
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t comma = text.find(", ", at), end = comma == std::string::npos ? text.size() : comma + 2;
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

class Chart {
 public:
  Chart(const std::vector<RopeGroup>& groups, const RopeChartLabels& labels) : groups_(groups), labels_(labels) {}

  std::string draw() {
    if (groups_.empty()) return nothing();
    choose_layers();
    const RopeSpec& first = spec_of(groups_[0]);
    original_ = trained_context(first, labels_.context > 0 ? labels_.context : std::max(1, first.context));
    pairs_ = rope_pairs(first, original_, labels_.sequence_length);
    collect();
    legend();
    const double top = cursor_ + 46;
    frequency_ = {std::pow(10, std::floor(std::log10(least_))), 1.0, top, kPlot};
    slow_ = {1.0 / slow_headroom(), most_slowed_ * slow_headroom(), top + kPlot + 78, kSlowPlot};
    height_ = slow_.top + slow_.height + 56;
    bands();
    frequency_axis();
    slow_axis();
    curves();
    return head() + body_ + "</svg>\n";
  }

 private:
  const RopeSpec& spec_of(const RopeGroup& group) const {
    for (const formats::WantedLayer& layer : group.rope.layers)
      if (layer.layer_type == layer_type_) return layer.spec;
    return group.rope.layers.at(0).spec;
  }
  /// The first kind of layer that has a method, else the first.
  void choose_layers() {
    const auto& layers = groups_[0].rope.layers;
    const auto scaled = std::find_if(layers.begin(), layers.end(), [](const formats::WantedLayer& layer) {
      return !std::holds_alternative<RopeUnscaled>(layer.spec.scaling);
    });
    layer_type_ = (scaled == layers.end() ? layers.begin() : scaled)->layer_type;
  }
  double x(std::size_t pair) const {
    if (pairs_.size() == 1) return (kLeft + kRight) / 2;
    const std::size_t last = std::max<std::size_t>(1, pairs_.size() - 1);
    return kLeft + (kRight - kLeft) * double(pair) / double(last);
  }
  double slow_headroom() const { return std::pow(most_slowed_, 0.08) < 1.02 ? 1.02 : std::pow(most_slowed_, 0.08); }

  /// Tables of all groups, and the ranges of both plots.
  void collect() {
    for (const RopePair& pair : pairs_)
      if (pair.before > 0) least_ = std::min(least_, pair.before);
    for (const RopeGroup& group : groups_) {
      tables_.push_back(rope_table(spec_of(group), labels_.sequence_length));
      for (std::size_t pair = 0; pair < tables_.back().inv_freq.size(); ++pair) {
        const double f = tables_.back().inv_freq[pair];
        if (!(f > 0)) continue;
        least_ = std::min(least_, f);
        if (pair < pairs_.size()) most_slowed_ = std::max(most_slowed_, pairs_[pair].before / f);
      }
    }
    least_ = std::clamp(least_, 1e-12, 0.5);  // one pair, of 1 radian per token: a decade all the same
    most_slowed_ = std::clamp(most_slowed_, 1.25, 1e9);
  }

  void text(double at_x, double at_y, const std::string& words, const std::string& attributes = "") {
    body_ += "<text x=\"" + px(at_x) + "\" y=\"" + px(at_y) + "\"" + (attributes.empty() ? "" : " " + attributes) +
             ">" + escaped(words) + "</text>\n";
  }
  void line(double x1, double y1, double x2, double y2, const std::string& kind) {
    body_ += "<line class=\"" + kind + "\" x1=\"" + px(x1) + "\" y1=\"" + px(y1) + "\" x2=\"" + px(x2) + "\" y2=\"" +
             px(y2) + "\"/>\n";
  }

  void legend() {
    constexpr std::size_t kTitleLetters = 74;  // bold at 16 px: up to 11 px a letter
    const std::string layers = layer_type_.empty() ? "" : ", " + shortened(layer_type_, kTitleLetters / 2);
    text(kLeft, 30, "RoPE of " + shortened(labels_.title, kTitleLetters - layers.size()) + layers, "class=\"title\"");
    cursor_ = 54;
    const auto entry = [&](const std::string& kind, const std::string& words) {
      line(kLeft, cursor_ - 4, kLeft + 28, cursor_ - 4, kind);
      for (const std::string& part : wrapped(words)) {
        text(kLeft + 38, cursor_, part);
        cursor_ += 18;
      }
    };
    entry("curve before", "before: theta " + number_text(spec_of(groups_[0]).theta, 8) + ", unscaled");
    for (std::size_t group = 0; group < groups_.size(); ++group) {
      const RopeSpec& spec = spec_of(groups_[group]);
      const std::string at = " in a sequence of " + std::to_string(labels_.sequence_length) + " tokens";
      entry(kind_of(group), groups_[group].name + ": " + describe(spec) + (depends_on_length(spec) ? at : ""));
    }
  }
  std::string kind_of(std::size_t group) const { return "curve c" + std::to_string(group % kColors); }

  /// Stretches of pairs that the first rope treats alike; a stretch begins half a pair early.
  void bands() {
    for (std::size_t from = 0; from < pairs_.size();) {
      std::size_t to = from;
      while (to < pairs_.size() && pairs_[to].band == pairs_[from].band) ++to;
      const double left = from == 0 ? kLeft : (x(from - 1) + x(from)) / 2;
      const double right = to == pairs_.size() ? kRight : (x(to - 1) + x(to)) / 2;
      const std::string name = rope_band_name(pairs_[from].band);
      for (const Scale* plot : {&frequency_, &slow_})
        body_ += "<rect class=\"band " + name + "\" x=\"" + px(left) + "\" y=\"" + px(plot->top) + "\" width=\"" +
                 px(right - left) + "\" height=\"" + px(plot->height) + "\"/>\n";
      if (right - left > 7.5 * double(name.size()))
        text((left + right) / 2, frequency_.top - 8, name, "class=\"small\" text-anchor=\"middle\"");
      from = to;
    }
  }

  void frame(const Scale& plot) {
    body_ += "<rect class=\"frame\" x=\"" + px(kLeft) + "\" y=\"" + px(plot.top) + "\" width=\"" + px(kRight - kLeft) +
             "\" height=\"" + px(plot.height) + "\"/>\n";
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
    const int lowest = int(std::lround(std::log10(frequency_.low)));
    for (int decade = lowest; decade <= 0; ++decade) {
      const double value = std::pow(10, decade), y = frequency_.y(value);
      if (decade != lowest && decade != 0) line(kLeft, y, kRight, y, "grid");
      text(kLeft - 8, y + 4, decade == 0 ? "1" : "1e" + std::to_string(decade), "class=\"small\" text-anchor=\"end\"");
      text(kRight + 8, y + 4, tokens_text(2 * std::numbers::pi / value), "class=\"small\"");
    }
    text(kLeft - 62, frequency_.top - 26, "radians per token");
    text(kRight + 78, frequency_.top - 26, "tokens per turn", "text-anchor=\"end\"");
    const double turn = 2 * std::numbers::pi / original_;
    if (turn > frequency_.low && turn < frequency_.high) {
      const double y = frequency_.y(turn);
      line(kLeft, y, kRight, y, "once");
      text(kLeft + 8, y - 6, "one turn in the original " + std::to_string(original_) + " tokens", "class=\"small\"");
    }
    pair_axis(frequency_, false);
  }
  /// Three digits: "6.28", "62.8", "628", "6.28 k", "62.8 k", "6.28 M".
  static std::string tokens_text(double tokens) {
    const char* unit = tokens >= 1e6 ? " M" : tokens >= 1e3 ? " k" : "";
    return number_text(tokens >= 1e6 ? tokens / 1e6 : tokens >= 1e3 ? tokens / 1e3 : tokens, 3) + unit;
  }

  void slow_axis() {
    frame(slow_);
    text(kLeft - 62, slow_.top - 12, "slower by (before / after)");
    // about five marks, at powers of two
    const int powers = int(std::floor(std::log2(most_slowed_))), step = std::max(1, (powers + 4) / 5);
    for (int power = 0; power <= powers; power += step) {
      const double value = std::exp2(power), y = slow_.y(value);
      line(kLeft, y, kRight, y, "grid");
      text(kLeft - 8, y + 4, number_text(value, 6) + "x", "class=\"small\" text-anchor=\"end\"");
    }
    pair_axis(slow_, true);
  }

  void curve(const std::string& id, const std::string& kind, const Scale& plot, const std::vector<double>& values) {
    body_ += "<polyline id=\"" + id + "\" class=\"" + kind + "\" points=\"";
    bool first = true;
    for (std::size_t pair = 0; pair < std::min(values.size(), pairs_.size()); ++pair) {
      if (!(values[pair] > 0)) continue;  // a pair that stands still has no place on a logarithmic scale
      const double y = plot.y(values[pair]);
      body_ += first ? "" : " ";
      if (pairs_.size() == 1) body_ += px(x(pair) - kDash) + "," + px(y) + " " + px(x(pair) + kDash) + "," + px(y);
      else body_ += px(x(pair)) + "," + px(y);
      first = false;
    }
    body_ += "\"/>\n";
  }
  void curves() {
    std::vector<double> before;
    for (const RopePair& pair : pairs_) before.push_back(pair.before);
    for (std::size_t group = 0; group < groups_.size(); ++group) {
      const std::vector<double>& after = tables_[group].inv_freq;
      std::vector<double> slowed;
      for (std::size_t pair = 0; pair < std::min(after.size(), before.size()); ++pair)
        slowed.push_back(after[pair] > 0 ? before[pair] / after[pair] : 0);
      curve("curve-" + std::to_string(group), kind_of(group), frequency_, after);
      curve("slow-" + std::to_string(group), kind_of(group), slow_, slowed);
    }
    curve("before", "curve before", frequency_, before);
  }

  std::string head() const {
    return "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"" + px(kWidth) + "\" height=\"" + px(height_) +
           "\" viewBox=\"0 0 " + px(kWidth) + " " + px(height_) + "\">\n<title>RoPE of " + escaped(labels_.title) +
           "</title>\n" + style() + "<rect class=\"paper\" width=\"" + px(kWidth) + "\" height=\"" + px(height_) +
           "\"/>\n";
  }
  /// Colours that stay apart in grey and for the common kinds of colour blindness; curves differ in dashes too.
  static std::string style() {
    return "<style>\n"
           "text{font:13px sans-serif;fill:#1c2024}\n"
           ".title{font:bold 16px sans-serif}\n"
           ".small{font-size:11px}\n"
           ".paper{fill:#ffffff}\n"
           ".frame{fill:none;stroke:#70757a}\n"
           ".grid{stroke:#70757a;stroke-opacity:.3}\n"
           ".tick{stroke:#70757a}\n"
           ".once{stroke:#70757a;stroke-dasharray:6 4}\n"
           ".band{stroke:none;fill:#70757a;fill-opacity:0}\n"
           ".blended{fill-opacity:.09}\n"
           ".interpolated{fill-opacity:.2}\n"
           ".still{fill-opacity:.32}\n"
           ".curve{fill:none;stroke-width:2.2;stroke-linejoin:round}\n"
           ".before{stroke:#70757a;stroke-width:1.6;stroke-dasharray:2 3}\n"
           ".c0{stroke:#0b62c4}\n"
           ".c1{stroke:#c2410c;stroke-dasharray:9 4}\n"
           ".c2{stroke:#0f7b4f;stroke-dasharray:14 4 3 4}\n"
           ".c3{stroke:#8b1fa9;stroke-dasharray:5 3}\n"
           ".c4{stroke:#8a6100;stroke-dasharray:12 3 3 3 3 3}\n"
           ".c5{stroke:#b3124d;stroke-dasharray:3 3}\n"
           ".c6{stroke:#006d77;stroke-dasharray:18 5}\n"
           ".c7{stroke:#4a4f57;stroke-dasharray:7 2 2 2}\n"
           "@media (prefers-color-scheme:dark){\n"
           "text{fill:#e6e8ea}\n"
           ".paper{fill:#15181c}\n"
           ".frame,.tick,.once,.before{stroke:#9aa0a6}\n"
           ".grid{stroke:#9aa0a6}\n"
           ".band{fill:#9aa0a6}\n"
           ".c0{stroke:#6cb2ff}\n"
           ".c1{stroke:#ff9a5c}\n"
           ".c2{stroke:#54d3a0}\n"
           ".c3{stroke:#dd8cf5}\n"
           ".c4{stroke:#e5bd4f}\n"
           ".c5{stroke:#ff86ac}\n"
           ".c6{stroke:#5fd0da}\n"
           ".c7{stroke:#b9bfc7}\n"
           "}\n</style>\n";
  }
  std::string nothing() {
    height_ = 60;
    text(kLeft, 36, "no engine reads " + labels_.title);
    return head() + body_ + "</svg>\n";
  }

  const std::vector<RopeGroup>& groups_;
  const RopeChartLabels& labels_;
  std::string layer_type_;  // drawn
  int original_ = 1;
  std::vector<RopePair> pairs_;  // of the first group
  std::vector<RopeTable> tables_;
  double least_ = 1, most_slowed_ = 1, cursor_ = 0, height_ = 0;
  Scale frequency_{}, slow_{};
  std::string body_;
};

}  // namespace

std::string rope_chart(const std::vector<RopeGroup>& groups, const RopeChartLabels& labels) {
  return Chart(groups, labels).draw();
}

}  // namespace ropewalk::tools
