// What verify's reports say of a failure's cause and of what was not judged: the same in every format.
#include "tests/tools/command.h"
#include "tests/tools/sarif.h"

namespace ropewalk::tools::test {
namespace {

class VerifyReports : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    scratch = new Scratch;
    ASSERT_EQ(run({"convert", source(), "-o", good(), "--type", "q8_0", "--no-sync"}).exit, 0);
    std::string bytes = slurp(good());
    bytes[bytes.size() - 100'000] ^= 0x40;  // a value of the head
    spill(*scratch / "weight.gguf", bytes);
    bytes = slurp(good());
    const auto piece = bytes.find("\xE2\x96\x81prince");
    ASSERT_NE(piece, std::string::npos);
    bytes[piece + 3] = 'q';
    spill(*scratch / "token.gguf", bytes);
  }
  static void TearDownTestSuite() {
    delete scratch;
    scratch = nullptr;
  }
  static std::string source() { return model("tolstoy-4m-yarn-2k"); }
  static std::string good() { return (*scratch / "good.gguf").string(); }
  struct Reports {
    Ran ran;
    std::string xml, csv, md, html;
    Json sarif;
  };
  static Reports reports_of(const std::string& candidate, std::vector<std::string> more) {
    std::vector<std::string> words = {"verify", (*scratch / candidate).string(), "-q", "--json", "--overwrite"};
    words.insert(words.end(), more.begin(), more.end());
    for (const char* kind : {"xml", "csv", "md", "html", "sarif"})
      words.insert(words.end(), {"--report", (*scratch / ("r." + std::string(kind))).string()});
    Reports out;
    out.ran = run(words);
    const auto text = [](const char* name) { return slurp(*scratch / name); };
    out.xml = text("r.xml"), out.csv = text("r.csv"), out.md = text("r.md"), out.html = text("r.html");
    out.sarif = Json::parse(text("r.sarif"));
    check_sarif(out.sarif);
    return out;
  }
  static std::string first_result(const Json& sarif) {
    return sarif["runs"][0]["results"].at(0)["message"]["text"].get<std::string>();
  }
  /// Every format names these levels as not judged, or none does.
  static void expect_not_judged(const Reports& reports, const std::vector<std::string>& levels,
                                const std::string& why) {
    const Json& list = reports.ran.json()["not_judged"];
    ASSERT_EQ(list.size(), levels.size()) << list;
    EXPECT_EQ(reports.sarif["runs"][0].contains("invocations"), !levels.empty());
    EXPECT_EQ(reports.xml.find("<skipped") == std::string::npos, levels.empty()) << reports.xml;
    for (const std::string* text : {&reports.xml, &reports.csv, &reports.md, &reports.html})
      EXPECT_EQ(text->find("not judged") == std::string::npos, levels.empty()) << *text;
    for (std::size_t i = 0; i < levels.size(); ++i) {
      EXPECT_EQ(list[i]["level"], levels[i]);
      EXPECT_NE(list[i]["why"].get<std::string>().find(why), std::string::npos) << list[i];
      const auto& note = reports.sarif["runs"][0]["invocations"][0]["toolExecutionNotifications"][i];
      EXPECT_NE(note["message"]["text"].get<std::string>().find(levels[i] + " not judged: "), std::string::npos);
      EXPECT_NE(reports.xml.find("name=\"" + levels[i] + "\"><skipped message=\"not judged: "), std::string::npos)
          << reports.xml;
      EXPECT_NE(reports.csv.find("\n" + levels[i] + ",-,-,-,,-,not judged"), std::string::npos) << reports.csv;
    }
  }
  static Scratch* scratch;
};
Scratch* VerifyReports::scratch = nullptr;

TEST_F(VerifyReports, TheCauseStandsInEveryFormat) {
  const std::vector<std::string> shortly = {"--against", source(), "-c", "64", "--windows", "1"};
  const Reports weight = reports_of("weight.gguf", shortly);
  ASSERT_EQ(weight.ran.exit, 1);
  EXPECT_NE(weight.xml.find("1 &gt; 0: 1 of 39 tensors errs by more than one rounding to its type may cost: 'model."),
            std::string::npos)
      << weight.xml;
  EXPECT_NE(first_result(weight.sarif).find("weights is 1 > 0: 1 of 39 tensors errs"), std::string::npos);
  const Reports token = reports_of("token.gguf", shortly);
  ASSERT_EQ(token.ran.exit, 1);
  EXPECT_NE(token.xml.find(" &gt; 0: vocabulary: "), std::string::npos) << token.xml;
  EXPECT_NE(first_result(token.sarif).find("> 0: vocabulary: "), std::string::npos) << token.sarif;
  const Reports rope = reports_of("good.gguf", {"--against", source() + "+rope=linear,factor=8,original=256", "-c",
                                                "64", "--windows", "1", "--level", "structure"});
  EXPECT_NE(first_result(rope.sarif).find("linear x8"), std::string::npos) << rope.sarif;
  for (const Reports* one : {&weight, &token, &rope})
    EXPECT_EQ(one->xml.find("> 0\"/>"), std::string::npos) << one->xml;
}

TEST_F(VerifyReports, WhatWasNotJudgedIsSaidInEveryFormat) {
  const std::vector<std::string> against = {"--against", source(), "-c", "64", "--windows", "1"};
  const auto with = [&](std::vector<std::string> more) {
    more.insert(more.begin(), against.begin(), against.end());
    return more;
  };
  expect_not_judged(reports_of("good.gguf", against), {}, "");
  const Reports structure = reports_of("good.gguf", with({"--level", "structure"}));
  EXPECT_EQ(structure.ran.exit, 0);
  expect_not_judged(structure, {"weights", "logits"}, "--level is structure");
  EXPECT_NE(structure.md.find("PASS; weights and logits not judged"), std::string::npos) << structure.md;
  expect_not_judged(reports_of("weight.gguf", against), {"logits"},
                    "a gate of the weights failed; --keep-going goes on");
  expect_not_judged(reports_of("weight.gguf", with({"--keep-going"})), {}, "");
  const std::string reference = (*scratch / "source.rwref").string();
  ASSERT_EQ(run({"verify", "--against", source(), "--save-reference", reference, "-c", "64", "--windows", "1"}).exit,
            0);
  expect_not_judged(reports_of("good.gguf", {"--reference", reference}), {"weights"}, "a reference has none");
}

TEST_F(VerifyReports, ThePageNamesTheCandidateAndMarksWhatFailed) {
  const Reports weight = reports_of("weight.gguf", {"--against", source(), "-c", "64", "--windows", "1"});
  for (const char* tag : {"<title>", "<h1>"}) {
    const auto at = weight.html.find(tag);
    EXPECT_NE(weight.html.substr(at, weight.html.find('<', at + 1) - at).find("weight.gguf against "),
              std::string::npos);
  }
  EXPECT_NE(weight.html.find("class=\"fail\">weights    FAIL  1 of 39"), std::string::npos);
  EXPECT_EQ(weight.html.find("class=\"fail\">structure"), std::string::npos);
  const Reports token = reports_of("token.gguf", {"--against", source(), "--level", "structure"});
  EXPECT_NE(token.html.find("<span class=\"fail\">  vocabulary "), std::string::npos) << "one line of several";
  EXPECT_EQ(token.html.find("<span class=\"fail\">  geometry"), std::string::npos);
}

// A run that failed, or of another release, is a baseline that says little.
TEST_F(VerifyReports, ADoubtfulBaselineIsWarnedOf) {
  const std::string path = (*scratch / "base.json").string();
  const std::vector<std::string> words = {"verify", good(),      "--against", source(), "-c",
                                          "64",     "--windows", "1",         "--json"};
  const Ran first = run(words);
  ASSERT_EQ(first.exit, 0);
  const auto warned = [&](const std::function<void(Json&)>& change) {
    Json json = first.json();
    change(json);
    spill(path, json.dump());
    std::vector<std::string> more = words;
    more.insert(more.end(), {"--baseline", path});
    const Ran ran = run(more);
    EXPECT_EQ(ran.exit, 0) << ran.err;
    return ran.json()["warnings"].dump();
  };
  EXPECT_EQ(warned([](Json&) {}).find("base.json is of"), std::string::npos);
  EXPECT_NE(warned([](Json& json) { json["pass"] = false; }).find("base.json is of a verify that did not pass"),
            std::string::npos);
  EXPECT_NE(warned([](Json& json) { json["ropewalk"] = "0.0.9"; }).find("base.json is of ropewalk 0.0.9, and this is"),
            std::string::npos);
}

}  // namespace
}  // namespace ropewalk::tools::test
