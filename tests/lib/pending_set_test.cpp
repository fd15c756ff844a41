#include <sys/stat.h>

#include <csignal>
#include <memory>
#include <thread>
#include <vector>

#include "tests/lib/pending_outputs.h"

using namespace ropewalk;

namespace {

class PendingSetTest : public PendingOutputs {};
INSTANTIATE_TEST_SUITE_P(Both, PendingSetTest, testing::Values(false, true),
                         [](const auto& param) { return param.param ? "Named" : "Unnamed"; });

}  // namespace

// The shards of one split: all of them or none, also when the last cannot take its name.
TEST_P(PendingSetTest, FilesOfOneResultAppearTogetherOrNotAtAll) {
  PendingFile first(folder / "a", 1, options()), second(folder / "b", 1, options());
  first.write(0, bytes_of("1"));
  second.write(0, bytes_of("2"));
  std::ofstream(folder / "b") << "another run's";
  EXPECT_NE(refusal([&] {
              finish_together({.files = {&first, &second}, .folders = {}, .replaced = {}});
            }).find("exists"),
            std::string::npos);
  EXPECT_FALSE(fs::exists(folder / "a"));
  EXPECT_EQ(read(folder / "b"), "another run's");

  PendingFile third(folder / "c", 1, options()), fourth(folder / "d", 1, options());
  third.write(0, bytes_of("3"));
  fourth.write(0, bytes_of("4"));
  finish_together({.files = {&third, &fourth}, .folders = {}, .replaced = {}});
  EXPECT_EQ(read(folder / "c") + read(folder / "d"), "34");
}

// A folder beside files: it gives its name up again, and the folder it had replaced is back. A file that replaced
// another stays, and is named.
TEST_P(PendingSetTest, FoldersAndFilesAppearTogetherOrNotAtAll) {
  const auto write = [](PendingFile& file) { file.write(0, bytes_of("1")); };
  const auto model = [&](const std::string& name, bool overwrite) {
    auto pending = std::make_unique<PendingFolder>(folder / name, options(overwrite));
    std::ofstream(pending->building() / "config.json") << "new";
    return pending;
  };
  fs::create_directory(folder / "old");
  std::ofstream(folder / "old/config.json") << "old";
  std::ofstream(folder / "over") << "old";
  {
    const auto fresh = model("fresh", false), old = model("old", true);
    PendingFile file(folder / "file", 1, options()), late(folder / "late", 1, options());
    write(file), write(late);
    std::ofstream(folder / "late") << "another run's";
    const PendingSet set{.files = {&file, &late}, .folders = {fresh.get(), old.get()}, .replaced = {}};
    EXPECT_NE(refusal([&] { finish_together(set); }).find("late: exists already"), std::string::npos);
    EXPECT_EQ(read(folder / "old/config.json"), "old");
    EXPECT_FALSE(fs::exists(folder / "fresh"));
  }
  EXPECT_EQ(names(), (Names{"late", "old", "over"}));
  EXPECT_EQ(read(folder / "old/config.json"), "old");
  {
    const auto old = model("old", true);
    PendingFile over(folder / "over", 1, options(true)), late(folder / "late", 1, options(true));
    write(over), write(late);
    fs::remove(folder / "late");
    fs::create_directory(folder / "late");  // appears while the run writes
    const PendingSet set{.files = {&over, &late}, .folders = {old.get()}, .replaced = {}};
    const std::string said = refusal([&] { finish_together(set); });
    EXPECT_NE(said.find("is a folder, a file is to be written (complete and in place of the old: '" +
                        (folder / "over").string() + "'; nothing else was written)"),
              std::string::npos)
        << said;
    fs::remove(folder / "late");
  }
  EXPECT_EQ(names(), (Names{"old", "over"}));
  EXPECT_EQ(read(folder / "over"), "1");
  EXPECT_EQ(read(folder / "old/config.json"), "old");
  const auto fresh = model("fresh", false), old = model("old", true);
  PendingFile file(folder / "file", 1, options());
  write(file);
  finish_together({.files = {&file}, .folders = {fresh.get(), old.get()}, .replaced = {folder / "over"}});
  EXPECT_EQ(names(), (Names{"file", "fresh", "old"}));
  EXPECT_EQ(read(folder / "old/config.json") + read(folder / "fresh/config.json"), "newnew");
}

// Old and new shards stand beside each other in the midst of a split that replaces another: then without a first one.
TEST_P(PendingSetTest, ASplitThatStopsInTheMidstHasNoFirstShard) {
  const auto finish = [&](std::size_t blocked) {
    for (const char* name : {"1", "2", "3"}) std::ofstream(folder / name) << "old";
    std::vector<std::unique_ptr<PendingFile>> files;
    PendingSet set{.files = {}, .splits = {{}}, .folders = {}, .replaced = {}};
    for (const char* name : {"1", "2", "3"}) {
      files.push_back(std::make_unique<PendingFile>(folder / name, 3, options(true)));
      files.back()->write(0, bytes_of("new"));
      set.splits[0].push_back(files.back().get());
    }
    if (blocked == 0) return finish_together(set), std::string();
    fs::remove(folder / std::to_string(blocked));
    fs::create_directory(folder / std::to_string(blocked));  // appears while the run writes
    const std::string said = refusal([&] { finish_together(set); });
    fs::remove(folder / std::to_string(blocked));
    return said;
  };
  EXPECT_EQ(finish(2).find("complete"), std::string::npos);  // none was replaced: the old ones are back
  EXPECT_EQ(read(folder / "1") + read(folder / "3"), "oldold");
  const std::string said = finish(3);
  EXPECT_NE(said.find("(complete and in place of the old: '" + (folder / "2").string() + "', and so the old '" +
                      (folder / "1").string() + "' is removed; nothing else was written)"),
            std::string::npos)
      << said;
  EXPECT_EQ(names(), Names{"2"});
  EXPECT_EQ(read(folder / "2"), "new");
  finish(0);
  EXPECT_EQ(names(), (Names{"1", "2", "3"}));
  EXPECT_EQ(read(folder / "1") + read(folder / "2") + read(folder / "3"), "newnewnew");
}

// SIGKILL as soon as the first name changes.
TEST_P(PendingSetTest, AKilledSplitIsOldOrNewOrWithoutItsFirstShard) {
  constexpr std::size_t kShards = 100;
  for (int round = 0; round < 6; ++round) {
    for (std::size_t shard = 0; shard < kShards; ++shard) std::ofstream(folder / std::to_string(shard)) << "";
    const auto is_new = [&](std::size_t shard) {
      struct stat status {};
      return ::stat((folder / std::to_string(shard)).c_str(), &status) == 0 && status.st_size == 1;
    };
    const pid_t pid = ::fork();
    if (pid == 0) {
      std::vector<std::unique_ptr<PendingFile>> files;
      PendingSet all{.files = {}, .splits = {{}}, .folders = {}, .replaced = {}};
      for (std::size_t shard = 0; shard < kShards; ++shard) {
        files.push_back(std::make_unique<PendingFile>(folder / std::to_string(shard), 1, options(true)));
        all.splits[0].push_back(files.back().get());
      }
      finish_together(all);
      ::pause();
    }
    while (!is_new(1 + static_cast<std::size_t>(round)) && ::waitpid(pid, nullptr, WNOHANG) == 0) {
    }
    ::kill(pid, SIGKILL);
    int status = 0;
    ASSERT_EQ(::waitpid(pid, &status, 0), pid);
    std::size_t count = 0;
    for (std::size_t shard = 0; shard < kShards; ++shard) count += is_new(shard);
    EXPECT_TRUE(count == kShards || !fs::exists(folder / "0")) << count << " of " << kShards << " are new";
  }
}

TEST_P(PendingSetTest, WhatTheNewSetReplacesGoesWithIt) {
  for (const char* name : {"old-1", "old-2"}) std::ofstream(folder / name) << "old";
  PendingFile file(folder / "new", 1, options());
  file.write(0, bytes_of("1"));
  finish_together(
      {.files = {&file}, .folders = {}, .replaced = {folder / "old-1", folder / "old-2", folder / "gone already"}});
  EXPECT_EQ(names(), Names{"new"});
}

// A signal as soon as the first of many shards has its name: all of them get theirs. (Without the hold a part is left
// in every third round.)
TEST_P(PendingSetTest, ASignalLeavesAWholeSetOrNone) {
  constexpr std::size_t kShards = 200;
  for (int round = 0; round < 6; ++round) {
    const pid_t pid = ::fork();
    if (pid == 0) {
      ::signal(SIGTERM, [](int) {
        remove_pending_on_signal();
        ::_exit(143);
      });
      std::thread([] { ::pause(); }).detach();  // a worker that may get the signal, as those of the pool do
      std::vector<std::unique_ptr<PendingFile>> files;
      PendingSet all;
      for (std::size_t shard = 0; shard < kShards; ++shard)
        all.files.push_back(
            files.emplace_back(std::make_unique<PendingFile>(folder / std::to_string(shard), 0, options())).get());
      finish_together(all);
      ::pause();
    }
    while (::access((folder / "0").c_str(), F_OK) != 0 && ::waitpid(pid, nullptr, WNOHANG) == 0) {
    }
    ::kill(pid, SIGTERM);
    int status = 0;
    ASSERT_EQ(::waitpid(pid, &status, 0), pid);
    ASSERT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 143);
    EXPECT_EQ(names().size(), kShards) << "round " << round;
    for (const std::string& name : names()) fs::remove(folder / name);
  }
}
