#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <atomic>
#include <barrier>
#include <csignal>
#include <thread>
#include <vector>

#include "tests/lib/pending_outputs.h"

using namespace ropewalk;

namespace {

class PendingFileTest : public PendingOutputs {};
INSTANTIATE_TEST_SUITE_P(Both, PendingFileTest, testing::Values(false, true),
                         [](const auto& param) { return param.param ? "Named" : "Unnamed"; });

}  // namespace

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
