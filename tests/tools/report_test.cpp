// Drawings and pages: .html and .svg.
#include <cmath>
#include <sstream>

#include "tests/tools/command.h"
#include "tools/heat_map.h"
#include "tools/line_chart.h"
#include "tools/render.h"

namespace ropewalk::tools {
namespace {

using test::fs::path;

std::size_t count(const std::string& text, const std::string& part) {
  std::size_t n = 0;
  for (std::size_t at = 0; (at = text.find(part, at)) != std::string::npos; at += part.size()) ++n;
  return n;
}

/// The first tag that does not close what is open, "" if all do. Void elements of HTML and comments aside, which is all of
/// XML that our pages use.
std::string unbalanced(const std::string& text) {
  std::vector<std::string> open;
  for (std::size_t at = 0; (at = text.find('<', at)) != std::string::npos;) {
    const std::size_t end = text.find('>', at);
    if (end == std::string::npos) return text.substr(at, 40);
    const std::string tag = text.substr(at + 1, end - at - 1);
    at = end + 1;
    const std::string name =
        tag.substr(tag.front() == '/' ? 1 : 0, tag.find_first_of(" \n/", 1) - (tag.front() == '/' ? 1 : 0));
    if (tag.front() == '!' || tag.front() == '?' || tag.back() == '/' || name == "meta") continue;
    if (tag.front() != '/') open.push_back(name);
    else if (open.empty() || open.back() != name) return tag;
    else open.pop_back();
  }
  return open.empty() ? "" : open.back();
}

/// Points of the n-th polyline.
std::vector<std::pair<double, double>> points_of(const std::string& svg, std::size_t n) {
  std::size_t at = 0;
  for (std::size_t i = 0; i <= n; ++i) at = svg.find("<polyline", at + 1);
  at = svg.find("points=\"", at) + 8;
  std::istringstream in(svg.substr(at, svg.find('"', at) - at));
  std::vector<std::pair<double, double>> out;
  char comma;
  for (double x, y; in >> x >> comma >> y;) out.emplace_back(x, y);
  return out;
}

TEST(LineChart, PointsStandWhereTheirValuesSay) {
  const Drawing drawing = line_chart(
      {.title = "a <b> & \"c\"",
       .x_axis = "x",
       .y_axis = "y",
       .log_x = true,
       .log_y = true,
       .curves = {{"one", {{1, 1e-4}, {4, 1e-2}, {16, 1}}}, {"two", {{1, 0}, {4, std::nan("")}, {16, 1e-3}}}}});
  const auto one = points_of(drawing.svg, 0), two = points_of(drawing.svg, 1);
  ASSERT_EQ(one.size(), 3u);
  ASSERT_EQ(two.size(), 1u) << "0 and NaN have no place on a scale by logarithms";
  // equal ratios are equal distances, and less lies lower
  EXPECT_NEAR(one[1].first - one[0].first, one[2].first - one[1].first, 0.02);
  EXPECT_NEAR(one[1].second - one[0].second, one[2].second - one[1].second, 0.02);
  EXPECT_LT(one[2].second, one[0].second);
  EXPECT_NEAR((two[0].second - one[2].second) / (one[1].second - one[2].second), 1.5, 0.01);  // 1e-3 between 1 and 1e-2
  EXPECT_EQ(unbalanced(drawing.svg), "");
  EXPECT_NE(drawing.svg.find("a &lt;b&gt; &amp; &quot;c&quot;"), std::string::npos);
  EXPECT_NE(drawing.svg.find("prefers-color-scheme:dark"), std::string::npos);
  EXPECT_EQ(drawing.width, 480);
}

TEST(LineChart, NothingMeasuredIsSaid) {
  for (const bool log_y : {false, true}) {
    const Drawing drawing =
        line_chart({.title = "t", .x_axis = "x", .y_axis = "y", .log_y = log_y, .curves = {{"", {{1, std::nan("")}}}}});
    EXPECT_NE(drawing.svg.find(log_y ? "every value is 0 or none was measured" : "nothing was measured"),
              std::string::npos);
    EXPECT_EQ(drawing.svg.find("nan"), std::string::npos);
  }
  const Drawing one = line_chart({.title = "t", .x_axis = "x", .y_axis = "y", .curves = {{"", {{5, 7}}}}});
  EXPECT_EQ(points_of(one.svg, 0).size(), 1u);
  EXPECT_EQ(count(one.svg, "<circle"), 1u) << "a curve of one point is its marker";
}

TEST(Html, EscapesWhatItShowsAndNeedsNothing) {
  Output output{.command = "verify", .source = "<script>alert(1)</script>", .warnings = {"a <b>", "a <b>"}};
  output.text("x < y & z");
  output.text("two\nlines <i>");
  output.table({{{"<h>"}, {"n", true}}, {{"<td>", "1"}, {"FAIL", "2"}}});
  output.checks = {{"one", true, ""}, {"two", false, "no"}};
  output.drawings = {line_chart({.title = "t", .x_axis = "x", .y_axis = "y", .curves = {{"", {{1, 2}, {2, 3}}}}})};
  const std::string page = render_html(output);
  EXPECT_EQ(unbalanced(page), "");
  EXPECT_EQ(page.find("<script"), std::string::npos);
  EXPECT_EQ(page.find("<b>"), std::string::npos);
  EXPECT_EQ(count(page, "warning: a &lt;b&gt;"), 1u) << "each once";
  EXPECT_NE(page.find("<pre>two\nlines &lt;i&gt;</pre>"), std::string::npos) << page;
  EXPECT_NE(page.find("<td class=\"fail\">FAIL</td>"), std::string::npos);
  EXPECT_NE(page.find("FAIL: 1 of 2 checks passed"), std::string::npos);
  EXPECT_NE(page.find("<meta name=\"viewport\""), std::string::npos);
  for (const char* outside : {"src=", "href=", "url(", "@import", "javascript", "onload"})
    EXPECT_EQ(page.find(outside), std::string::npos) << outside;
  EXPECT_EQ(count(page, "http"), count(page, "xmlns=\"http://www.w3.org/2000/svg\"")) << "nothing is fetched";
  output.drawings.push_back(output.drawings.front());
  const std::string both = render_svg(output);
  EXPECT_EQ(unbalanced(both), "");
  EXPECT_EQ(count(both, "<svg"), 3u);
}

}  // namespace
}  // namespace ropewalk::tools

namespace ropewalk::tools::test {
namespace {

// A run without a verdict says why in every report that can say it, and touches nothing that is no report.
TEST(Report, ErrorsAreReported) {
  const Scratch scratch;
  const std::string base = model("tolstoy-4m"), text = (scratch / "text.txt").string();
  spill(text, "too little <&>");
  const auto file = [&](const std::string& name) { return (scratch / name).string(); };
  const auto judge = [&](std::vector<std::string> more) {
    std::vector<std::string> words = {"verify", base, "--against", base, "-c", "64", "--json", "-q"};
    words.insert(words.end(), more.begin(), more.end());
    return run(words);
  };
  std::vector<std::string> all = {"-f", text};
  for (const char* name : {"e.xml", "e.json", "e.html", "e.md", "e.csv", "e.svg", "e.sarif"})
    all.insert(all.end(), {"--report", file(name)});
  const Ran ran = judge(all);
  ASSERT_EQ(ran.exit, 3) << ran.err;
  const std::string line = ran.err.substr(0, ran.err.size() - 1), page = slurp(scratch / "e.html"),
                    junit = slurp(scratch / "e.xml");
  EXPECT_EQ(ran.err_lines().size(), 1u);
  EXPECT_EQ(slurp(scratch / "e.json"), ran.out) << "the error object of --json";
  EXPECT_NE(junit.find("<testsuite name=\"ropewalk verify\" tests=\"1\" failures=\"0\" errors=\"1\">"),
            std::string::npos)
      << junit;
  EXPECT_NE(junit.find("name=\"verify\"><error message=\"" + line.substr(7)), std::string::npos) << junit;
  EXPECT_EQ(unbalanced(page), "");
  EXPECT_NE(page.find("ERROR: the command ended without a result"), std::string::npos) << page;
  EXPECT_NE(page.find(line), std::string::npos) << page;
  EXPECT_NE(slurp(scratch / "e.md").find(line), std::string::npos);
  for (const char* name : {"e.csv", "e.svg", "e.sarif"}) EXPECT_FALSE(fs::exists(scratch / name)) << name;

  // an earlier verdict is replaced where --overwrite says so, what is no report never
  spill(scratch / "mine.xml", "somebody's");
  ASSERT_EQ(judge({"-f", fixture("goldens/perplexity/doc-1.txt"), "--report", file("v.xml")}).exit, 0);
  const std::string passed = slurp(scratch / "v.xml");
  EXPECT_NE(passed.find(" errors=\"0\""), std::string::npos);
  EXPECT_EQ(judge({"-f", text, "--report", file("v.xml")}).exit, 5) << "it exists";
  EXPECT_EQ(slurp(scratch / "v.xml"), passed);
  EXPECT_EQ(judge({"-f", text, "--report", file("v.xml"), "--report", file("mine.xml"), "--overwrite"}).exit, 3);
  EXPECT_NE(slurp(scratch / "v.xml").find("<error"), std::string::npos);
  EXPECT_EQ(slurp(scratch / "mine.xml"), "somebody's");
  EXPECT_EQ(judge({"-f", text, "--report", file("e.json"), "--overwrite"}).exit, 3) << "an error is a report, too";
  EXPECT_EQ(judge({"--max", "no=1", "--report", file("u.xml")}).exit, 2);
  EXPECT_FALSE(fs::exists(scratch / "u.xml")) << "nothing was begun";
  EXPECT_EQ(judge({"--report", file("v.xml"), "--report", file("w.xml")}).exit, 5) << "v.xml exists";
  EXPECT_NE(slurp(scratch / "w.xml").find("v.xml: the report exists"), std::string::npos);
}

// What one sees on a phone without scrolling is the whole title.
TEST(Report, ATitleIsNoWiderThanAPhone) {
  const std::string title = "passkey in grass, 4 keys asked for at each depth, seed 1",
                    name = "/a/long/path/without/any/blank/to/break/it/at/SmolLM2-135M-Instruct.Q4_1.gguf";
  const Drawing narrow = heat_maps(title, "tokens", "depth", {{name, {"1", "2"}, {"0%"}, {{0, 1}}}}),
                wide = heat_maps(title, "tokens", "depth", {{"m", std::vector<std::string>(8, "1"), {}, {}}});
  EXPECT_LE(narrow.width, 356);
  EXPECT_EQ(count(narrow.svg, "class=\"title\""), 2u);
  EXPECT_EQ(count(narrow.svg, "class=\"name\""), 2u);
  EXPECT_EQ(count(wide.svg, "class=\"title\""), 1u);
  std::string shown;
  for (std::size_t at = 0; (at = narrow.svg.find("class=\"name\">", at)) != std::string::npos;)
    at += 13, shown += narrow.svg.substr(at, narrow.svg.find('<', at) - at);
  EXPECT_EQ(shown, name) << "nothing of it is left out";
}

TEST(Report, PagesOfTheJudges) {
  const Scratch scratch;
  const std::string base = model("tolstoy-4m-yarn-2k"), text = fixture("goldens/perplexity/doc-1.txt");
  const auto file = [&](const char* name) { return (scratch / name).string(); };
  const auto page_of = [&](std::vector<std::string> words, const char* name, int exit) {
    words.insert(words.end(), {"--report", file(name), "-q"});
    const Ran ran = run(words);
    EXPECT_EQ(ran.exit, exit) << ran.err;
    return slurp(scratch / name);
  };
  const std::vector<std::string> verify = {
      "verify", base + "+rope=linear,factor=8,original=256", "--against", base, "-c", "512", "--windows", "1"};
  const std::string page = page_of(verify, "v.html", 1);
  for (const char* title : {"KL by position", "Perplexity by position", "Distance by layer", "Rope at 512 tokens",
                            "original context 256", "FAIL: "})
    EXPECT_NE(page.find(title), std::string::npos) << title;
  EXPECT_EQ(count(page, "<figure"), 4u);
  EXPECT_EQ(count(page_of(verify, "v.svg", 1), "<svg"), 5u);
  const std::string perplexity = page_of({"perplexity", base, base + "+rope=linear,factor=4,original=256", "-f", text,
                                          "-c", "64,128,256", "--windows", "1"},
                                         "p.html", 0);
  EXPECT_NE(perplexity.find("Perplexity by context, protocol tokens"), std::string::npos);
  EXPECT_NE(perplexity.find("Perplexity by position at 256, protocol tokens"), std::string::npos);
  const std::string passkey =
      page_of({"passkey", base, "-c", "128,160", "--depths", "0,100", "--iterations", "1"}, "k.html", 0);
  EXPECT_EQ(count(passkey, "class=\"cell\""), 4u);
  EXPECT_NE(page_of({"inspect", base}, "i.html", 0).find("<pre>"), std::string::npos) << "any command has a page";
  const Ran none = run({"inspect", base, "--report", file("i.svg")});
  EXPECT_EQ(none.exit, 2) << "and no drawing";
}

}  // namespace
}  // namespace ropewalk::tools::test
