#include "lib/pending_file.h"

#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <barrier>
#include <chrono>
#include <csignal>
#include <fstream>
#include <map>
#include <memory>
#include <set>
#include <thread>
#include <vector>

#include "lib/error.h"
#include "tests/unprivileged.h"

using namespace ropewalk;
namespace fs = std::filesystem;

namespace {

std::span<const std::byte> bytes_of(const std::string& text) { return std::as_bytes(std::span(text)); }

std::string read(const fs::path& path) {
  std::ifstream in(path);
  return {std::istreambuf_iterator<char>(in), {}};
}

std::string refusal(const auto& action) {
  try {
    action();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::io) << error.what();
    return error.what();
  }
  return "(no error)";
}

/// Runs `body` in a child of its own and returns how it ended.
int child(const auto& body) {
  const pid_t pid = ::fork();
  if (pid == 0) {
    body();
    ::_exit(0);
  }
  int status = 0;
  ::waitpid(pid, &status, 0);
  return status;
}

/// With unnamed files and without: the parameter is WriteOptions::named.
class PendingFileTest : public testing::TestWithParam<bool> {
 protected:
  void SetUp() override {
    std::string pattern = (fs::temp_directory_path() / "ropewalk-pending-XXXXXX").string();
    folder = ::mkdtemp(pattern.data());
  }
  void TearDown() override { fs::remove_all(folder); }
  std::set<std::string> names() const {
    std::set<std::string> out;
    for (const auto& entry : fs::directory_iterator(folder)) out.insert(entry.path().filename().string());
    return out;
  }
  WriteOptions options(bool overwrite = false, bool sync = false) const {
    return {.overwrite = overwrite, .sync = sync, .named = GetParam()};
  }
  fs::path folder;
};
INSTANTIATE_TEST_SUITE_P(Both, PendingFileTest, testing::Values(false, true),
                         [](const auto& param) { return param.param ? "Named" : "Unnamed"; });

using Names = std::set<std::string>;

}  // namespace

// The shards of one split: all of them or none, also when the last cannot take its name.
TEST_P(PendingFileTest, FilesOfOneResultAppearTogetherOrNotAtAll) {
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
TEST_P(PendingFileTest, FoldersAndFilesAppearTogetherOrNotAtAll) {
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
TEST_P(PendingFileTest, ASplitThatStopsInTheMidstHasNoFirstShard) {
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
TEST_P(PendingFileTest, AKilledSplitIsOldOrNewOrWithoutItsFirstShard) {
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

TEST_P(PendingFileTest, WhatTheNewSetReplacesGoesWithIt) {
  for (const char* name : {"old-1", "old-2"}) std::ofstream(folder / name) << "old";
  PendingFile file(folder / "new", 1, options());
  file.write(0, bytes_of("1"));
  finish_together(
      {.files = {&file}, .folders = {}, .replaced = {folder / "old-1", folder / "old-2", folder / "gone already"}});
  EXPECT_EQ(names(), Names{"new"});
}

// A signal as soon as the first of many shards has its name: all of them get theirs. (Without the hold a part is left
// in every third round.)
TEST_P(PendingFileTest, ASignalLeavesAWholeSetOrNone) {
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

TEST_P(PendingFileTest, AppearsWhole) {
  {
    PendingFile file(folder / "out", 8, options(false, true));
    file.write(4, bytes_of("5678"));
    file.write(0, bytes_of("1234"));
    EXPECT_FALSE(fs::exists(folder / "out"));
    file.finish();
    EXPECT_EQ(names(), Names{"out"});
  }
  EXPECT_EQ(read(folder / "out"), "12345678");
  const mode_t mask = ::umask(0);
  ::umask(mask);
  EXPECT_EQ(static_cast<mode_t>(fs::status(folder / "out").permissions()), 0666 & ~mask);
}

TEST_P(PendingFileTest, UnfinishedLeavesNothing) {
  { PendingFile file(folder / "out", 8, options()); }
  EXPECT_EQ(names(), Names{});
  { PendingFile(folder / "empty", 0, options()).finish(); }
  EXPECT_EQ(names(), Names{"empty"});
}

TEST_P(PendingFileTest, TargetExists) {
  std::ofstream(folder / "out") << "old";
  fs::permissions(folder / "out", fs::perms::owner_read | fs::perms::owner_write);
  EXPECT_EQ(refusal([&] { PendingFile(folder / "out", 3, options()); }),
            (folder / "out").string() + ": exists already; use --overwrite to replace it, or choose another name");
  {
    PendingFile file(folder / "out", 3, options(true));
    file.write(0, bytes_of("new"));
    EXPECT_EQ(read(folder / "out"), "old");
    file.finish();
  }
  EXPECT_EQ(read(folder / "out"), "new");
  EXPECT_EQ(fs::status(folder / "out").permissions(), fs::perms::owner_read | fs::perms::owner_write);
  EXPECT_EQ(names(), Names{"out"});
}

TEST_P(PendingFileTest, OverwriteReplacesALinkNotItsTarget) {
  std::ofstream(folder / "blob") << "old";
  fs::create_symlink("blob", folder / "out");
  PendingFile file(folder / "out", 3, options(true));
  file.write(0, bytes_of("new"));
  file.finish();
  EXPECT_EQ(read(folder / "blob"), "old");
  EXPECT_EQ(read(folder / "out"), "new");
}

TEST_P(PendingFileTest, TargetsThatCannotBe) {
  fs::create_directory(folder / "dir");
  EXPECT_NE(refusal([&] { PendingFile(folder / "dir", 1, options(true)); }).find("is a folder"), std::string::npos);
  EXPECT_NE(refusal([&] { PendingFile(folder / "no" / "out", 1, options()); }).find("/no' does not exist"),
            std::string::npos);
  ASSERT_EQ(::mkfifo((folder / "pipe").c_str(), 0600), 0);
  EXPECT_NE(refusal([&] { PendingFile(folder / "pipe", 1, options(true)); }).find("is a device or pipe"),
            std::string::npos);
  EXPECT_EQ(names(), (Names{"dir", "pipe"}));
}

TEST_P(PendingFileTest, OfManyWritersOneWins) {
  constexpr int kWriters = 8;
  std::atomic<int> won = 0, lost = 0;
  std::barrier all_open(kWriters);
  std::vector<std::thread> writers;
  for (int writer = 0; writer < kWriters; ++writer)
    writers.emplace_back([&, writer] {
      PendingFile file(folder / "out", 1, options());
      file.write(0, bytes_of(std::to_string(writer)));
      all_open.arrive_and_wait();
      try {
        file.finish();
        ++won;
      } catch (const Error& error) {
        EXPECT_NE(std::string(error.what()).find("exists already"), std::string::npos);
        ++lost;
      }
    });
  for (std::thread& writer : writers) writer.join();
  EXPECT_EQ(won, 1);
  EXPECT_EQ(lost, kWriters - 1);
  EXPECT_EQ(names(), Names{"out"});
}

TEST_P(PendingFileTest, KilledRunLeavesNoTargetAndTheNextRunReaps) {
  const int status = child([&] {
    PendingFolder pending(folder / "model", options());
    PendingFile inner(pending.building() / "shard", 1 << 20, options());
    PendingFile file(folder / "out", 1 << 20, options());
    file.write(0, bytes_of("half"));
    ::raise(SIGKILL);
  });
  ASSERT_TRUE(WIFSIGNALED(status));
  EXPECT_FALSE(fs::exists(folder / "out"));
  EXPECT_FALSE(fs::exists(folder / "model"));
  EXPECT_EQ(names().size(), GetParam() ? 2u : 1u);  // the hidden folder, and the file where it has a name
  PendingFile next(folder / "next", 1, options());
  PendingFile beside(folder / "beside", 1, options());  // must not reap `next`, whose owner lives
  next.write(0, bytes_of("x"));
  next.finish();
  beside.finish();
  EXPECT_EQ(names(), (Names{"beside", "next"}));
}

// Every new output reaps in its folder; what another has just created and not yet locked may go, and is created again.
// (Without that, about one folder in a hundred failed with "no such folder".)
TEST_P(PendingFileTest, ReapersAndWritersSideBySide) {
  constexpr int kWriters = 8, kRounds = 100;
  std::atomic<int> failures = 0;
  std::vector<std::thread> writers;
  for (int writer = 0; writer < kWriters; ++writer)
    writers.emplace_back([&, writer] {
      for (int round = 0; round < kRounds; ++round) try {
          PendingFolder pending(folder / ("m" + std::to_string(writer)), options());
        } catch (const Error&) {
          ++failures;
        }
    });
  for (std::thread& writer : writers) writer.join();
  EXPECT_EQ(failures, 0);
  EXPECT_EQ(names(), Names{});
}

// A signal on another thread just before the names are given: once its handler removes what is pending, no folder takes
// the target's place any more, or the handler would empty that one. (Without the wait the target was gutted in one round
// of eight.)
TEST_P(PendingFileTest, ASignalBesideAPublicationLeavesTheOldFolderOrTheNew) {
  constexpr int kFiles = 80;
  const auto file = [](int i) { return i == 0 ? std::string("config.json") : std::to_string(i); };
  for (int round = 0; round < 12; ++round) {
    fs::remove_all(folder / "model");
    fs::create_directory(folder / "model");
    for (int i = 0; i < kFiles; ++i) std::ofstream(folder / "model" / file(i)) << "old";
    const int status = child([&] {
      ::signal(SIGTERM, [](int) {
        remove_pending_on_signal();
        ::_exit(143);
      });
      std::thread receiver([] {
        for (;;) ::pause();
      });
      const pthread_t other = receiver.native_handle();
      receiver.detach();
      WriteOptions overwriting = options();
      overwriting.overwrite = true;
      PendingFolder pending(folder / "model", overwriting);
      for (int i = 0; i < kFiles; ++i) std::ofstream(pending.building() / file(i)) << "new";
      ::pthread_kill(other, SIGTERM);
      std::this_thread::sleep_for(std::chrono::microseconds(40 * round));
      try {
        pending.finish();
      } catch (const Error&) {  // what it was to publish is being removed
        ::pause();
      }
      ::_exit(0);
    });
    ASSERT_TRUE(WIFEXITED(status));
    std::map<std::string, int> found;
    for (int i = 0; i < kFiles; ++i) ++found[read(folder / "model" / file(i))];
    EXPECT_TRUE(found == (std::map<std::string, int>{{"old", kFiles}}) ||
                found == (std::map<std::string, int>{{"new", kFiles}}))
        << "round " << round << ": " << found["old"] << " old, " << found["new"] << " new, " << found[""] << " gone";
  }
}

TEST_P(PendingFileTest, SignalsRemoveWhatIsPending) {
  const int status = child([&] {
    ::signal(SIGTERM, [](int) {
      remove_pending_on_signal();
      ::_exit(143);
    });
    PendingFolder pending(folder / "model", options());
    fs::create_directory(pending.building() / "inner");
    for (int i = 0; i < 300; ++i) std::ofstream(pending.building() / "inner" / std::to_string(i)) << "x";
    PendingFile file(folder / "out", 1 << 20, options());
    ::raise(SIGTERM);
  });
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 143);
  EXPECT_EQ(names(), Names{});
}

TEST_P(PendingFileTest, NoSpace) {
  fs::create_directory(folder / "small");
  if (::mount("tmpfs", (folder / "small").c_str(), "tmpfs", 0, "size=1m") != 0)
    GTEST_SKIP() << "SKIPPED: mounting a small tmpfs was refused (needs root), disk full is not tested here";
  const std::string message = refusal([&] { PendingFile(folder / "small" / "out", 2 << 20, options()); });
  EXPECT_NE(message.find("cannot reserve 2097152 bytes ("), std::string::npos) << message;
  EXPECT_NE(message.find("free some space"), std::string::npos) << message;
  EXPECT_TRUE(fs::is_empty(folder / "small"));
  ::umount((folder / "small").c_str());
}

TEST_P(PendingFileTest, WriteRefusedLeavesNothing) {
  const int status = child([&] {
    ::signal(SIGXFSZ, SIG_IGN);
    try {
      PendingFile file(folder / "out", 1 << 20, options());
      const rlimit limit{1 << 16, 1 << 16};
      ::setrlimit(RLIMIT_FSIZE, &limit);
      file.write(0, std::vector<std::byte>(1 << 20));
    } catch (const Error& error) {  // the first 64 KiB fit; the rest is refused with EFBIG
      if (error.kind() == ErrorKind::io &&
          std::string(error.what()).find("cannot write at byte 65536") != std::string::npos)
        ::_exit(7);
    }
  });
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 7);
  EXPECT_EQ(names(), Names{});
}

TEST_P(PendingFileTest, FolderAppearsWhole) {
  {
    PendingFolder pending(folder / "model/", options(false, true));
    PendingFile file(pending.building() / "a", 1, options());
    file.write(0, bytes_of("x"));
    file.finish();
    EXPECT_FALSE(fs::exists(folder / "model"));
    pending.finish();
  }
  EXPECT_EQ(names(), Names{"model"});
  EXPECT_EQ(read(folder / "model" / "a"), "x");
  {
    PendingFolder dropped(folder / "other", options());
    std::ofstream(dropped.building() / "b") << "y";
  }
  EXPECT_EQ(names(), Names{"model"});
}

TEST_P(PendingFileTest, FolderExists) {
  fs::create_directory(folder / "model");
  std::ofstream(folder / "model" / "old") << "x";
  std::ofstream(folder / "model" / "config.json") << "{}";
  EXPECT_NE(refusal([&] { PendingFolder(folder / "model", options()); }).find("exists already; use --overwrite"),
            std::string::npos);
  {
    PendingFolder pending(folder / "model", options(true));
    std::ofstream(pending.building() / "new") << "y";
    std::ofstream(pending.building() / "config.json") << "{}";
    EXPECT_TRUE(fs::exists(folder / "model" / "old"));
    pending.finish();
  }
  EXPECT_EQ(names(), Names{"model"});
  EXPECT_FALSE(fs::exists(folder / "model" / "old"));
  EXPECT_EQ(read(folder / "model" / "new"), "y");
  fs::create_directory(folder / "model" / "precious");
  EXPECT_NE(refusal([&] { PendingFolder(folder / "model", options(true)); }).find("holds the folder 'precious'"),
            std::string::npos);
  EXPECT_NE(refusal([&] { PendingFolder(folder / "model" / "new", options(true)); }).find("is not a folder"),
            std::string::npos);
}

// A drop box: what lies in it is nobody's business, so it cannot be opened to be synced.
TEST_P(PendingFileTest, IntoAFolderThatMayNotBeRead) {
  const fs::path box = folder / "box";
  fs::create_directory(box);
  ropewalk::test::hand_over(folder);
  fs::permissions(box, fs::perms::owner_write | fs::perms::owner_exec);
  const int status = child([&] {
    if (!ropewalk::test::drop_root()) ::_exit(100);
    const auto write = [&](const std::string& text, bool overwrite) {
      write_file(box / "out", text, options(overwrite, true));
      PendingFolder model(box / "model", options(false, true));
      write_file(model.building() / "config.json", "{}", model.inside("config.json"));
      model.finish();
    };
    if (refusal([&] { write("old", false); }) != "(no error)") ::_exit(1);
    if (refusal([&] { write("new", true); }) !=
        (box / "model").string() + ": exists already; use --overwrite to " + "replace it, or choose another name")
      ::_exit(2);
  });
  fs::permissions(box, fs::perms::owner_all);
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
  EXPECT_EQ(read(box / "out"), "new");
  EXPECT_EQ(read(box / "model" / "config.json"), "{}");
}

TEST_P(PendingFileTest, OnlyAModelsFolderIsReplaced) {
  fs::create_directory(folder / "thesis");
  std::ofstream(folder / "thesis" / "chapter") << "x";
  EXPECT_NE(refusal([&] { PendingFolder(folder / "thesis", options(true)); }).find("not a model's folder"),
            std::string::npos);
  EXPECT_EQ(read(folder / "thesis" / "chapter"), "x");
  // an adapter's is replaced by an adapter, and by nothing that lacks what it has
  fs::rename(folder / "thesis" / "chapter", folder / "thesis" / "adapter_config.json");
  const auto replace_by = [&](const std::string& name) {
    return refusal([&] { PendingFolder(folder / "thesis", options(true)).refuse_to_lose({name}); });
  };
  EXPECT_NE(replace_by("config.json").find("holds 'adapter_config.json'"), std::string::npos);
  EXPECT_EQ(replace_by("adapter_config.json"), "(no error)");
  fs::rename(folder / "thesis" / "adapter_config.json", folder / "thesis" / "config.json");
  EXPECT_EQ(refusal([&] { PendingFolder(folder / "thesis", options(true)).finish(); }), "(no error)");
  EXPECT_TRUE(fs::is_empty(folder / "thesis"));
  EXPECT_EQ(refusal([&] { PendingFolder(folder / "thesis", options(true)).finish(); }), "(no error)")
      << "an empty folder";
}

TEST_P(PendingFileTest, WhatTheNewFolderHasNotIsNotLostInSilence) {
  fs::create_directory(folder / "model");
  for (const char* name :
       {"config.json", "model-00001-of-00002.safetensors", "model.safetensors.index.json", "tokenizer.json"})
    std::ofstream(folder / "model" / name) << "old";
  PendingFolder pending(folder / "model", options(true));
  EXPECT_EQ(refusal([&] { pending.refuse_to_lose({"config.json", "tokenizer.json"}); }), "(no error)");
  std::ofstream(folder / "model" / "notes.txt") << "mine";
  EXPECT_EQ(refusal([&] {
              pending.refuse_to_lose({"config.json", "tokenizer.json"});
            }),
            (folder / "model").string() + ": holds 'notes.txt', which the new folder would not, so it is not " +
                "replaced; move what is yours away, or choose another name");
  EXPECT_NE(refusal([&] { pending.refuse_to_lose({"config.json"}); }).find("'notes.txt' and 1 other file, which"),
            std::string::npos);
  EXPECT_EQ(refusal([&] { pending.refuse_to_lose({"config.json", "tokenizer.json", "notes.txt"}); }), "(no error)");
  std::ofstream(folder / "model" / "style-lora.safetensors") << "came while the work went on";
  EXPECT_NE(refusal([&] { pending.finish(); }).find("holds 'style-lora.safetensors', which"), std::string::npos);
  EXPECT_EQ(read(folder / "model" / "notes.txt"), "mine");
}

TEST_P(PendingFileTest, WhatACrashLeftDoesNotStopTheNextRun) {
  for (const char* name : {"model", ".model.ropewalk-replaced"}) {
    fs::create_directory(folder / name);
    std::ofstream(folder / name / "config.json") << "old";
  }
  PendingFolder pending(folder / "model", options(true));
  std::ofstream(pending.building() / "config.json") << "new";
  EXPECT_EQ(refusal([&] { pending.finish(); }), "(no error)");
  EXPECT_EQ(read(folder / "model" / "config.json"), "new");
  if (GetParam()) {
    EXPECT_EQ(names(), Names{"model"});
  }
}

TEST_P(PendingFileTest, FolderThatAppearsMeanwhileIsKept) {
  PendingFolder pending(folder / "model", options());
  fs::create_directory(folder / "model");
  EXPECT_NE(refusal([&] { pending.finish(); }).find("exists already"), std::string::npos);
}
