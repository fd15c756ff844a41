// The context evaluated against the one a model serves: what goes past it is said, what is cut is asked for, windows
// that make no sense are usage errors before any byte is read.
#include "tests/tools/command.h"

namespace ropewalk::tools::test {
namespace {

class Context : public testing::Test {
 protected:
  Scratch scratch;
  const std::string source = model("stories260K"), text = fixture("goldens/perplexity/doc-1.txt");  // serves 512

  Ran refused(const std::vector<std::string>& words, int exit, const std::string& said) {
    const Ran ran = run(words);
    EXPECT_EQ(ran.exit, exit) << words[0] << ": " << ran.out << ran.err;
    EXPECT_EQ(ran.out, "");
    EXPECT_EQ(ran.err_lines().size(), 1u) << ran.err;
    EXPECT_NE(ran.err.find(said), std::string::npos) << ran.err;
    return ran;
  }
};

/// Without those of gates for which so few tokens say too little (tests/tools/verify_test.cpp).
Json warnings_of(const Ran& ran) {
  Json all = Json::array();
  for (const Json& line : ran.json()["warnings"])
    if (!line.get<std::string>().starts_with("the default gate on ")) all.push_back(line);
  return all;
}

TEST_F(Context, PastWhatBothServeVerifySaysSo) {
  const std::vector<std::string> words = {"verify", source, "--against", source, "-f", text, "--windows", "1", "-c"};
  const auto with = [&](const std::string& context, const std::string& more) {
    std::vector<std::string> all = words;
    all.insert(all.end(), {context, more});
    return run(all);
  };
  EXPECT_EQ(warnings_of(with("512", "--json")), Json::array()) << "control: the last position is its own";
  const Ran json = with("600", "--json"), plain = with("600", "-q");
  EXPECT_EQ(json.exit, 0) << "both compute the same there";
  const Json warnings = warnings_of(json);
  ASSERT_EQ(warnings.size(), 2u);
  EXPECT_EQ(warnings[0], "the source '" + source + "' serves 512 tokens: positions past 512, up to 600, are beyond it");
  EXPECT_EQ(warnings[1].get<std::string>().substr(0, 14), "the candidate ");
  EXPECT_NE(json.err.find("warning: the source "), std::string::npos);
  EXPECT_NE(plain.out.find("\ncontext    the source '"), std::string::npos) << "a report says it, quiet or not";
  EXPECT_NE(plain.out.find("\ncontext    the candidate '"), std::string::npos) << plain.out;
}

// A document without a whole window is named; without any it is an error.
TEST_F(Context, VerifySaysOfWhichDocumentsItTookNoWindow) {
  const std::string brief = (scratch / "brief.txt").string();
  spill(brief, "Once upon a time.");
  const Ran both =
      run({"verify", source, "--against", source, "-f", brief, "-f", text, "-c", "256", "--windows", "2", "--json"});
  ASSERT_EQ(both.exit, 0) << both.err;
  const std::string line = "no window was taken of '" + brief + "': fewer tokens than the 255 that one needs";
  EXPECT_EQ(warnings_of(both), Json::array({line}));
  EXPECT_NE(both.err.find("warning: " + line), std::string::npos) << both.err;
  EXPECT_EQ(warnings_of(run({"verify", source, "--against", source, "-f", text, "-f", brief, "-c", "256", "--windows",
                             "2", "--json"})),
            Json::array())
      << "two windows are of the first: nothing was asked of the second";
  refused({"verify", source, "--against", source, "-f", brief, "-f", brief, "-c", "256"}, 3,
          "1 window of 256 needs 255, and none goes on from one document to the next");
}

TEST_F(Context, ACandidateThatServesLessThanItsSourceAndThanIsAskedFails) {
  const fs::path brief = copy_of(source, scratch / "short");
  edit_json(brief / "config.json", [](Json& json) { json["max_position_embeddings"] = 256; });
  const auto gate = [&](const std::string& context) {
    const Json json = run({"verify", brief.string(), "--against", source, "-f", text, "--windows", "1", "--json",
                           "--level", "structure", "-c", context})
                          .json();
    for (const Json& one : json["gates"])
      if (one["name"] == "context") return one;
    return Json();
  };
  EXPECT_EQ(gate("256")["pass"], true) << "serves what is asked";
  EXPECT_EQ(gate("257")["pass"], false);
  EXPECT_EQ(gate("257")["limit"], 257.0);
  EXPECT_EQ(gate("4k")["pass"], false);
  EXPECT_EQ(gate("4k")["limit"], 512.0) << "nobody promised more than the source serves";
}

TEST_F(Context, PerplexityPastWhatASourceServesWarns) {
  const std::vector<std::string> words = {
      "perplexity", source, source + "+rope=linear,factor=2", "-f", text, "--windows", "1", "--json", "-c"};
  const auto warnings = [&](const std::string& contexts) {
    std::vector<std::string> all = words;
    all.push_back(contexts);
    const Ran ran = run(all);
    EXPECT_EQ(ran.exit, 0) << ran.err;
    std::vector<std::string> past;
    for (const Json& one : ran.json()["warnings"])
      if (one.get<std::string>().find("positions past") != std::string::npos) past.push_back(one);
    return past;
  };
  EXPECT_TRUE(warnings("256,512").empty());
  EXPECT_EQ(warnings("512,1k"), std::vector<std::string>{"'" + source +
                                                         "' serves 512 tokens: positions past 512, up to 1024, are "
                                                         "beyond it"});
  EXPECT_EQ(warnings("1k,1030").size(), 2u);
}

TEST_F(Context, LogitsTakeWhatTheModelServesOrWhatIsAskedFor) {
  const std::string out = (scratch / "l.safetensors").string();
  const auto logits = [&](std::vector<std::string> more) {
    std::vector<std::string> words = {"logits", source, "-o", out, "--last", "1", "--overwrite"};
    words.insert(words.end(), more.begin(), more.end());
    return words;
  };
  const Ran bundled = run(logits({}));
  EXPECT_EQ(bundled.exit, 0) << bundled.err;
  EXPECT_NE(bundled.out.find("; the first 512 of "), std::string::npos) << bundled.out;
  EXPECT_NE(bundled.out.find(" tokens of war-and-peace-tail.txt (bundled)\n"), std::string::npos) << bundled.out;
  EXPECT_EQ(run(logits({"--json"})).json()["context"], 512);
  refused(logits({"-f", text}), 3, text + ": the text has ");
  refused(logits({"-f", text}), 3, "serves 512; give -c 512 for the first of them, or a larger -c");
  const Ran cut = run(logits({"-f", text, "-c", "64"}));
  EXPECT_NE(cut.out.find("; the first 64 of "), std::string::npos) << cut.out << cut.err;
  const Json past = run(logits({"-f", text, "-c", "600", "--json"})).json();
  EXPECT_EQ(past["context"], 600);
  ASSERT_EQ(past["warnings"].size(), 1u);
  EXPECT_NE(past["warnings"][0].get<std::string>().find("positions past 512"), std::string::npos);
  spill(scratch / "brief.txt", "Once upon a time");
  const Ran whole = run(logits({"-f", (scratch / "brief.txt").string()}));
  EXPECT_EQ(whole.exit, 0) << whole.err;
  EXPECT_EQ(whole.out.find("the first"), std::string::npos) << whole.out;
}

// Nothing is read: the source is not even there.
TEST_F(Context, WhatLogitsCannotWriteIsFoundFirst) {
  const std::string gone = "/nowhere/model", there = (scratch / "there.safetensors").string();
  spill(there, "");
  refused({"logits", gone, "-o", "l.bin"}, 2, "ends in .safetensors");
  refused({"logits", gone, "-o", "/dev/full"}, 2, "ends in .safetensors");
  refused({"logits", gone, "-o", (scratch / "missing/l.safetensors").string()}, 5, "no such folder");
  refused({"logits", gone, "-o", there}, 5, "exists already");
  refused({"logits", gone, "-o", "/proc/l.safetensors"}, 5, "/proc");
  refused({"logits", gone, "-o", "l.safetensors", "--last", "0"}, 2, "--last is '0'");
  refused({"logits", gone, "-o", "l.safetensors", "-c", "1"}, 2, "a context of 1 has nothing to predict");
  refused({"logits", gone, "-o", "l.safetensors", "-c", "64", "--last", "65"}, 2, "--last is 65");
  refused({"logits", gone, "-o", (scratch / "l.safetensors").string()}, 3, gone);  // control
}

TEST_F(Context, WindowsThatMakeNoSenseAreUsageErrors) {
  const std::string gone = "/nowhere/model";
  const auto no = [&](std::vector<std::string> more, const std::string& said) {
    std::vector<std::string> words = {"perplexity", gone};
    words.insert(words.end(), more.begin(), more.end());
    refused(words, 2, said);
  };
  no({"-c", "1"}, "a context of 1 has nothing to predict; give -c of at least 2");
  no({"-c", "64,64"}, "--context has '64' twice");
  no({"-c", ""}, "--context has ''");
  no({"-c", "1k,1024"}, "--context has '1024' twice");
  no({"--protocol", "yarn,yarn"}, "--protocol has 'yarn' twice");
  no({"-c", "64", "--stride", "65"},
     "--stride is 65, and a window of 64 holds at most 64 tokens of the text: protocol tokens would leave tokens out; "
     "give a --stride of at most 63, or leave it out");
  no({"-c", "128,64", "--stride", "130"}, "give a --stride of at most 63, or leave it out");  // of the shorter one, too
  no({"-c", "64,128", "--stride", "100", "--protocol", "hf"}, "protocol hf would leave tokens out");
  no({"-c", "64", "--stride", "32", "--protocol", "llama.cpp"}, "protocol llama.cpp has no overlap");
  no({"-c", "2", "--protocol", "llama.cpp"}, "at least 3");
  refused({"perplexity", gone, "-c", "64", "--stride", "9999", "--protocol", "yarn"}, 3, gone);  // its --truncate
  // with BOS a window holds one token less, which only the model says
  refused({"perplexity", source, "-q", "-c", "64", "--stride", "64"}, 2, "holds 63 tokens of the text");
  EXPECT_EQ(run({"perplexity", source, "-c", "64", "--stride", "63", "--windows", "1"}).exit, 0);
}

// What is said of positions past the context is of a run that takes place.
TEST_F(Context, AnErrorIsOneLine) {
  refused({"perplexity", source, "-c", "1M"}, 3, "the text has ");
  refused({"verify", source, "--against", source, "-c", "1M"}, 3, "the text has ");
}

// A run that asks for no device says nothing of drivers; one that does says what stands in the way.
TEST_F(Context, OnlyWhoAsksForADeviceHearsOfIt) {
  const std::vector<std::string> words = {"verify", source, "--against", source, "-c", "64", "--windows", "1"};
  EXPECT_EQ(run(words).err.find("device"), std::string::npos) << run(words).err;
  std::vector<std::string> asked = words;
  asked.insert(asked.end(), {"--device", "auto"});
  EXPECT_NE(run(asked).err.find("device: cpu, in f32 ("), std::string::npos) << run(asked).err;
}

}  // namespace
}  // namespace ropewalk::tools::test
