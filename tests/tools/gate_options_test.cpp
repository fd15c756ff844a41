#include "tools/gate_options.h"

#include <gtest/gtest.h>

#include <cmath>

#include "lib/error.h"

namespace ropewalk::tools {
namespace {

using verify::Bound;
using verify::Figure;
using verify::GateRequest;

bool refused(Bound bound, const std::string& text, int context = 0) {
  GateOptions options;
  (bound == Bound::max ? options.max : options.min).push_back(text);
  try {
    asked_gates(options, context);
    return false;
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::usage) << text;
    return true;
  }
}

TEST(GateOptions, Limits) {
  EXPECT_EQ(limit_from("2%"), 0.02);
  EXPECT_EQ(limit_from("1e-3"), 1e-3);
  for (const char* text : {"", "%", "abc", "2 %", "nan", "inf", "1,5"}) EXPECT_FALSE(limit_from(text)) << text;
}

TEST(GateOptions, Parses) {
  const GateRequest plain = parse_gate(Bound::max, "kl_mean=0.01");
  EXPECT_EQ(plain.figure, Figure::kl_mean);
  EXPECT_EQ(plain.bound, Bound::max);
  EXPECT_EQ(plain.limit, 0.01);
  EXPECT_FALSE(plain.positions);
  const GateRequest range = parse_gate(Bound::min, "top1@4k:8k=99.5%");
  EXPECT_EQ(range.figure, Figure::top1);
  EXPECT_EQ(range.positions.value().from, 4096);
  EXPECT_EQ(range.positions.value().to, 8192);
  EXPECT_NEAR(range.limit, 0.995, 1e-15);
  EXPECT_EQ(parse_gate(Bound::max, "kl_mean@256:=1e-3").positions.value().from, 256);
  EXPECT_EQ(parse_gate(Bound::max, "kl_mean@256:=1e-3").positions.value().to, std::nullopt);
  EXPECT_EQ(parse_gate(Bound::max, "kl_mean@:256=1").positions.value().to, 256);
  for (const verify::FigureInfo& figure : verify::kFigures)
    EXPECT_EQ(parse_gate(Bound::max, std::string(figure.name) + "=1").figure, figure.figure);
}

TEST(GateOptions, RefusesWhatNoReportCanAnswer) {
  for (const char* bad : {"",
                          "kl_mean",
                          "=1",
                          "@1:2=1",
                          "kl_mean=",
                          "kl_mean=x",
                          "kl_mean=nan",
                          "kl_mean=inf",
                          "kl_mean=1x",
                          "kl_mean@a:b=1",
                          "kl_mean@9:9=1",
                          "kl_mean@9:4=1",
                          "kl_mean@0=1",
                          "kl_mean@2048=1",
                          "kl_mean@0:0=1",
                          "kl_mean@-1:4=1",
                          "kl_maen=1",
                          "kl_p999@5:6=1",
                          "kl_median@5:=1",
                          "kl_growth@1:2=1"})
    EXPECT_TRUE(refused(Bound::max, bad)) << bad;
  EXPECT_TRUE(refused(Bound::min, "top1=98")) << "98 for 98 %";
  const auto said = [](const char* text) -> std::string {
    try {
      parse_gate(Bound::max, text);
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_EQ(said("x=not a number%").find("gate 'x' is not known; use "), 0u) << said("x=not a number%");
  EXPECT_EQ(said("kl_mean=not a number%").find("gate 'kl_mean=not a number%' has 'not a number%' where a finite"), 0u);
  EXPECT_FALSE(refused(Bound::min, "top1=98%"));
}

// What is let through can be measured, at either end of the context too.
TEST(GateOptions, RangesAreHeldAgainstTheContext) {
  verify::PairResult pair;
  pair.scores.emplace_back(300, verify::PairScore{2, 2, 0.1, true});
  verify::LogitsReport report = verify::summarise_pair(pair, 256, 300);
  int measured = 0;
  for (const char* name : {"kl_mean", "kl_max", "top1", "ppl_ratio", "nll_difference"})
    for (const int from : {0, 1, 298, 299, 300, 301})
      for (const int to : {0, 1, 299, 300, 301}) {
        if (to != 0 && to <= from) continue;
        const std::string text = std::string(name) + "@" + std::to_string(from) + ":" + (to ? std::to_string(to) : "");
        const bool out = refused(Bound::max, text + "=1", 300);
        const double value = verify::apply_gates({parse_gate(Bound::max, text + "=1")}, report)[0].value;
        EXPECT_EQ(out, std::isnan(value) || to > 300) << text;
        measured += out ? 0 : 1;
      }
  EXPECT_EQ(measured, 5 * 12 - 2 * 2);  // of the losses none has the last position alone
  EXPECT_FALSE(refused(Bound::max, "kl_mean@5000:6000=1", 0)) << "the context is not known yet";
  EXPECT_TRUE(refused(Bound::max, "kl_mean@5000:6000=1", 300));
}

TEST(GateOptions, ABoundWithoutARangeReplacesItsDefault) {
  const auto limits = [](const std::vector<std::string>& max, const std::vector<std::string>& min) {
    std::vector<double> out;
    for (const GateRequest& request : with_defaults(asked_gates({max, min}, 0), DType::q8_0))
      if (request.figure == Figure::kl_mean) out.push_back(request.limit);
    return out;
  };
  const double standard = limits({}, {}).at(0);
  EXPECT_EQ(limits({"kl_mean=0.5"}, {}), (std::vector<double>{0.5}));
  EXPECT_EQ(limits({"kl_mean@4k:=0.5"}, {}), (std::vector<double>{standard, 0.5}));
  EXPECT_EQ(limits({}, {"kl_mean=0.5"}), (std::vector<double>{standard, 0.5}));
  EXPECT_EQ(limits({"kl_max=0.5"}, {}), (std::vector<double>{standard}));
}

}  // namespace
}  // namespace ropewalk::tools
