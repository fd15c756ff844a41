// Places that cannot be written or read: one line that names the place and what to do, exit code 5 (docs/design.md,
// section 7), and nothing left behind, also where a signal ends the run.
#include "tests/tools/command.h"

namespace ropewalk::tools::test {
namespace {

class BadTarget : public ModelCopy {
 protected:
  std::string out = (scratch / "out.gguf").string();
  Ran convert(const std::string& target, std::vector<std::string> more = {}, const RunOptions& options = {}) {
    std::vector<std::string> words = {"convert", source.string(), "-o", target, "--type", "f16"};
    words.insert(words.end(), more.begin(), more.end());
    return run(words, options);
  }
};

TEST_F(BadTarget, Exists) {
  spill(out, "mine");
  const Ran ran = convert(out);
  EXPECT_EQ(ran.exit, 5);
  EXPECT_NE(ran.err.find("out.gguf: exists already"), std::string::npos) << ran.err;
  EXPECT_EQ(slurp(out), "mine");
  EXPECT_EQ(convert(out, {"--overwrite"}).exit, 0);
  EXPECT_GT(fs::file_size(out), 1000u);
}
TEST_F(BadTarget, NoThreadsLeft) {
  RunOptions options;
  options.unprivileged = options.one_thread = true;
  options.env["ASAN_OPTIONS"] = "detect_leaks=0";  // the leak check of a sanitizer build starts a thread of its own
  ropewalk::test::hand_over(scratch.path());
  const Ran ran = convert(out, {"--threads", "4"}, options);
  EXPECT_EQ(ran.exit, 5) << ran.err;
  EXPECT_NE(ran.err.find("the system gives no more threads; use fewer with --threads"), std::string::npos) << ran.err;
  EXPECT_FALSE(fs::exists(out));
}
TEST_F(BadTarget, FolderExists) {
  fs::create_directory(scratch / "merged");
  const Ran ran = run({"merge", source.string(), "-o", (scratch / "merged").string(), "--dtype", "f16"});
  EXPECT_EQ(ran.exit, 5);
  EXPECT_TRUE(fs::is_empty(scratch / "merged"));
}
// --overwrite is about older reports, not about the files they tell of.
TEST_F(BadTarget, ReportsReplaceNoModel) {
  const std::string before = slurp(config);
  const Ran report = run({"lint", source.string(), "--report", config.string(), "--overwrite"});
  EXPECT_EQ(report.exit, 5) << report.err;
  EXPECT_NE(report.err.find("would replace a file in '" + source.string() + "', which is read as SOURCE"),
            std::string::npos)
      << report.err;
  EXPECT_EQ(run({"rope", source.string(), "--report", (scratch / "tokenizer.json").string()}).exit, 0)
      << "none is there";
  EXPECT_EQ(run({"rope", source.string(), "--report", (scratch / "tokenizer.json").string(), "--overwrite"}).exit, 5);
  ASSERT_EQ(convert(out).exit, 0);
  EXPECT_EQ(run({"rope", source.string(), "--svg", out, "--overwrite"}).exit, 2);
  EXPECT_EQ(slurp(config), before);
  EXPECT_EQ(slurp(out).substr(0, 4), "GGUF");
}
// What --overwrite would delete beyond a checkpoint's own files.
TEST_F(BadTarget, FolderHoldsSomebodysFiles) {
  const std::string merged = (scratch / "merged").string();
  ASSERT_EQ(run({"merge", source.string(), "-o", merged, "--dtype", "f16"}).exit, 0);
  EXPECT_EQ(run({"merge", source.string(), "-o", merged, "--dtype", "f16", "--overwrite"}).exit, 0);
  EXPECT_EQ(run({"extend", source.string(), "-o", merged, "--rope", "yarn,factor=2", "--overwrite"}).exit, 0);
  std::ofstream(scratch / "merged" / "notes.txt") << "mine";
  const std::vector<std::vector<std::string>> commands = {
      {"merge", source.string(), "-o", merged, "--dtype", "f16", "--overwrite"},
      {"convert", source.string(), "-o", merged + "/", "--type", "hf:f16", "--overwrite"},
      {"extend", source.string(), "-o", merged, "--rope", "yarn,factor=2", "--overwrite"}};
  for (const std::vector<std::string>& command : commands) {
    const Ran ran = run(command);
    EXPECT_EQ(ran.exit, 5) << ran.err;
    EXPECT_NE(ran.err.find(": holds 'notes.txt', which the new folder would not"), std::string::npos) << ran.err;
    EXPECT_EQ(slurp(scratch / "merged" / "notes.txt"), "mine");
  }
}
TEST_F(BadTarget, IsTheSource) {
  ASSERT_EQ(convert(out).exit, 0);
  const std::string before = slurp(out);
  const Ran ran = run({"extend", out, "-o", out, "--rope", "yarn,factor=2", "--overwrite"});
  EXPECT_EQ(ran.exit, 5) << ran.err;
  EXPECT_NE(ran.err.find("which is read as SOURCE"), std::string::npos) << ran.err;
  EXPECT_EQ(slurp(out), before);
  const Ran folder = run({"merge", source.string(), "-o", source.string(), "--dtype", "f16", "--overwrite"});
  EXPECT_EQ(folder.exit, 5) << folder.err;
  EXPECT_TRUE(fs::exists(weights));
  const Ran parent = run({"merge", source.string(), "-o", scratch.path().string(), "--dtype", "f16", "--overwrite"});
  EXPECT_EQ(parent.exit, 5) << parent.err;
  EXPECT_TRUE(fs::exists(weights));
}
// Names that would take the place of a part of a model, or hide what is written behind another kind's ending.
TEST_F(BadTarget, NamesOfAnotherKind) {
  const std::string shard = (scratch / "model-00001-of-00003.safetensors").string();
  spill(shard, "weights of a model");
  const auto before = scratch.names();
  const auto refused = [&](const std::vector<std::string>& words, const std::string& problem) {
    const Ran ran = run(words);
    EXPECT_EQ(ran.exit, 2) << ran.err;
    EXPECT_NE(ran.err.find(problem), std::string::npos) << ran.err;
    EXPECT_EQ(scratch.names(), before);
  };
  refused({"logits", source.string(), "-c", "16", "-o", shard, "--overwrite"},
          "one file of a split, which belongs to the others; give " + (scratch / "model.safetensors").string());
  EXPECT_EQ(slurp(shard), "weights of a model");
  refused({"logits", source.string(), "-c", "16", "-o", (scratch / "x.json").string()}, "x.json.safetensors");
  for (const char* name : {"x.safetensors", "x.json", "x.bin"}) {
    const std::string file = (scratch / name).string();
    refused({"extend", source.string(), "--rope", "yarn,factor=2", "-o", file}, file + ": a folder is to be written");
    refused({"merge", source.string(), "--dtype", "f16", "-o", file}, file + ": a folder is to be written");
  }
}
TEST_F(BadTarget, InNoFolder) {
  const Ran ran = convert((scratch / "none/out.gguf").string());
  EXPECT_EQ(ran.exit, 5);
  EXPECT_NE(ran.err.find("no such folder"), std::string::npos) << ran.err;
}
// Runs as a user without rights also where the tests run as root (tests/unprivileged.h).
class NoPermission : public BadTarget {
 protected:
  void SetUp() override { ropewalk::test::hand_over(scratch.path()); }
  void TearDown() override {
    for (const fs::path& path : closed) fs::permissions(path, fs::perms::owner_all);
  }
  void close(const fs::path& path, fs::perms left = fs::perms::none) {
    closed.push_back(path);
    fs::permissions(path, left);
  }
  /// Exit 5 and one line that names `place`, from every command that is given.
  void refused(const std::vector<std::vector<std::string>>& commands, const fs::path& place,
               const std::string& problem = "Permission denied") {
    RunOptions options;
    options.unprivileged = true;
    for (const auto& words : commands) {
      const auto before = scratch.names();
      const Ran ran = run(words, options);
      SCOPED_TRACE(words[0] + ": " + ran.err);
      EXPECT_EQ(ran.exit, 5);
      EXPECT_EQ(ran.err_lines().size(), 1u);
      EXPECT_NE(ran.err.find("error: " + place.string() + ": "), std::string::npos);
      EXPECT_NE(ran.err.find(problem), std::string::npos);
      EXPECT_EQ(scratch.names(), before);
    }
  }
  void refused_source(const std::string& text, const fs::path& place,
                      const std::string& problem = "Permission denied") {
    refused({{"inspect", text},
             {"convert", text, "-o", out, "--type", "f16", "--quiet"},
             {"merge", text, "-o", (scratch / "out").string(), "--dtype", "f16", "--quiet"},
             {"perplexity", text, "-c", "64"}},
            place, problem);
  }
  std::vector<fs::path> closed;
};

TEST_F(NoPermission, TheControlMayDoIt) {
  RunOptions options;
  options.unprivileged = true;
  const Ran ran = convert(out, {}, options);
  EXPECT_EQ(ran.exit, 0) << ran.err;
}
TEST_F(NoPermission, UnreadableShard) {
  close(weights);
  refused_source(source.string(), weights);
}
TEST_F(NoPermission, UnreadableConfig) {
  close(config);
  refused_source(source.string(), config);
}
TEST_F(NoPermission, UnreadableTokenizer) {
  close(source / "tokenizer.model");
  refused_source(source.string(), source / "tokenizer.model");
  refused({{"tokenize", source.string(), "-p", "text"}}, source / "tokenizer.model", "Permission denied");
}
TEST_F(NoPermission, UnreadableFolder) {
  for (const fs::perms left : {fs::perms::none, fs::perms::owner_exec, fs::perms::owner_read}) {
    close(source, left);
    RunOptions options;
    options.unprivileged = true;
    for (const std::string& text : {source.string(), weights.string()}) {
      // may be looked up by name, and fails only at listing what to carry over
      if (text == weights.string() && left == fs::perms::owner_exec) continue;
      const Ran ran = run({"inspect", text}, options);
      EXPECT_EQ(ran.exit, 5) << ran.err;
      EXPECT_NE(ran.err.find("error: " + source.string()), std::string::npos) << ran.err;
      EXPECT_NE(ran.err.find("Permission denied"), std::string::npos) << ran.err;
      EXPECT_EQ(ran.err_lines().size(), 1u);
    }
  }
}
TEST_F(NoPermission, FolderOfSomebodyElse) {  // mode 700, owned by root where the tests run as root
  fs::create_directory(scratch / "theirs");
  copy_of(source.string(), scratch / "theirs/model");
  close(scratch / "theirs", geteuid() == 0 ? fs::perms::owner_all : fs::perms::none);
  RunOptions options;
  options.unprivileged = true;
  const Ran folder = run({"inspect", (scratch / "theirs").string()}, options),
            inside = run({"inspect", (scratch / "theirs/model").string()}, options);
  EXPECT_EQ(folder.exit, 5) << folder.err;
  EXPECT_EQ(inside.exit, 5) << inside.err;
  EXPECT_NE(inside.err.find((scratch / "theirs/model").string() + ": cannot look at it: Permission denied"),
            std::string::npos)
      << inside.err;
}
TEST_F(NoPermission, UnreadableAdapter) {
  const fs::path lora = copy_of(adapter(), scratch / "lora");
  ropewalk::test::hand_over(lora);
  close(lora / "adapter_model.safetensors");
  refused({{"inspect", source.string() + "+" + lora.string()}}, lora / "adapter_model.safetensors");
  close(lora);
  refused({{"inspect", source.string() + "+" + lora.string()}, {"inspect", lora.string()}}, lora);
}
TEST_F(NoPermission, UnwritableFolder) {
  fs::create_directory(scratch / "locked");
  ropewalk::test::hand_over(scratch / "locked");
  close(scratch / "locked", fs::perms::owner_read | fs::perms::owner_exec);
  const std::string target = (scratch / "locked/out").string();
  refused({{"convert", source.string(), "-o", target + ".gguf", "--type", "f16"},
           {"merge", source.string(), "-o", target, "--dtype", "f16"},
           {"extend", source.string(), "-o", target, "--rope", "yarn,factor=2"}},
          scratch / "locked");
}
TEST_F(NoPermission, ReadOnlyTarget) {
  spill(out, "mine");
  ropewalk::test::hand_over(out);
  close(out, fs::perms::owner_read);
  RunOptions options;
  options.unprivileged = true;
  const Ran ran = convert(out, {"--overwrite"}, options);
  EXPECT_EQ(ran.exit, 5) << ran.err;
  EXPECT_NE(ran.err.find("out.gguf: cannot replace the read-only file: Permission denied"), std::string::npos)
      << ran.err;
  EXPECT_EQ(slurp(out), "mine");
  ASSERT_EQ(run({"merge", source.string(), "-o", (scratch / "merged").string(), "--dtype", "f16"}).exit, 0);
  ropewalk::test::hand_over(scratch / "merged");
  close(scratch / "merged", fs::perms::owner_read | fs::perms::owner_exec);
  const auto before = scratch.names();
  const Ran folder =
      run({"merge", source.string(), "-o", (scratch / "merged").string(), "--dtype", "f16", "--overwrite"}, options);
  EXPECT_EQ(folder.exit, 5) << folder.err;
  EXPECT_NE(folder.err.find("merged: cannot replace the folder: Permission denied"), std::string::npos) << folder.err;
  EXPECT_EQ(scratch.names(), before);
}

TEST_F(BadTarget, NameTooLong) {
  for (const std::string& name : {std::string(300, 'x') + ".gguf", std::string(300, 'x') + "/out.gguf"}) {
    const auto before = scratch.names();
    const Ran ran = convert((scratch / name).string());
    EXPECT_EQ(ran.exit, 5) << ran.err;
    EXPECT_NE(ran.err.find("File name too long; choose a shorter name"), std::string::npos) << ran.err;
    EXPECT_EQ(scratch.names(), before);
  }
}
TEST_F(BadTarget, OnAReadOnlyFileSystem) {
  const Ran ran = convert("/proc/out.gguf");  // also for root
  EXPECT_EQ(ran.exit, 5) << ran.err;
}
// Stands for a full disk: the write fails in the middle. The line names what was to be there, not what it was called
// meanwhile.
TEST_F(BadTarget, FileTooLargeToWrite) {
  const auto before = scratch.names();
  const auto refused = [&](const Ran& ran, const std::string& named) {
    EXPECT_EQ(ran.exit, 5) << ran.err;
    EXPECT_NE(ran.err.find("error: " + named + ": cannot "), std::string::npos) << ran.err;
    EXPECT_NE(ran.err.find(": File too large; raise the limit of a file's size (ulimit -f)"), std::string::npos)
        << ran.err;
    EXPECT_EQ(scratch.names(), before);
  };
  RunOptions options;
  options.max_file_bytes = 200'000;
  refused(convert(out, {}, options), out);
  const std::string folder = (scratch / "made").string();
  refused(run({"merge", source.string(), "-o", folder, "--dtype", "f16"}, options), folder + "/model.safetensors");
  refused(run({"extend", source.string(), "-o", folder, "--rope", "yarn,factor=2"}, options),
          folder + "/model.safetensors");
}
TEST_F(BadTarget, DryRunWritesNothing) {
  const auto before = scratch.names();
  const Ran ran = convert(out, {"--dry-run"});
  EXPECT_EQ(ran.exit, 0);
  EXPECT_NE(ran.err.find("writing 1 file"), std::string::npos) << ran.err;
  EXPECT_EQ(scratch.names(), before);
}

// Whenever the signal comes, the target is whole or not there, and no temporary stays. The moments are spread over the
// command's run.
TEST_F(BadTarget, KilledAtAnyMoment) {
  source = model("tolstoy-4m-yarn-2k");
  const auto before = scratch.names();
  int killed = 0;
  for (int signal : {SIGTERM, SIGINT}) {
    for (int moment = 0; moment < 25; ++moment) {
      Process process({"merge", source.string() + "+" + adapter(), "-o", (scratch / "merged").string(), "--quiet"}, {});
      usleep(static_cast<useconds_t>(moment * 1500));
      process.kill(signal);
      const Ran ran = process.wait();
      if (ran.exit == 128 + signal) ++killed;
      else EXPECT_EQ(ran.exit, 0) << ran.err;
      if (fs::exists(scratch / "merged")) {
        EXPECT_EQ(run({"inspect", (scratch / "merged").string()}).exit, 0) << "what is there is whole";
        fs::remove_all(scratch / "merged");
      }
      EXPECT_EQ(scratch.names(), before);
    }
  }
  EXPECT_GT(killed, 0);
}
}  // namespace
}  // namespace ropewalk::tools::test
