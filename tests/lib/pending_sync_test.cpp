// What becomes of an old folder when the disk refuses to say that the new one is on it.
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>
#include <set>

#include "lib/error.h"
#include "lib/pending_file.h"

namespace {
ino_t refused = 0;  // the folder that cannot be synced
}

/// In place of the C library's: the disk fails under one folder.
extern "C" int fsync(int fd) {
  struct stat status {};
  if (refused != 0 && ::fstat(fd, &status) == 0 && status.st_ino == refused) {
    errno = EIO;
    return -1;
  }
  return static_cast<int>(::syscall(SYS_fsync, fd));
}

namespace ropewalk {
namespace {

namespace fs = std::filesystem;

/// Folders exchanged and moved in two steps: the parameter is WriteOptions::named.
class PendingSyncTest : public testing::TestWithParam<bool> {
 protected:
  void SetUp() override {
    std::string pattern = (fs::temp_directory_path() / "ropewalk-sync-XXXXXX").string();
    folder = ::mkdtemp(pattern.data());
    struct stat status {};
    ASSERT_EQ(::stat(folder.c_str(), &status), 0);
    inode = status.st_ino;
  }
  void TearDown() override {
    refused = 0;
    fs::remove_all(folder);
  }
  /// Writes the folder "model" with this text; the message of its failure, or "".
  std::string write(const std::string& text, bool fails) {
    PendingFolder pending(folder / "model", {.overwrite = true, .named = GetParam()});
    write_file(pending.building() / "config.json", text, pending.inside("config.json"));
    refused = fails ? inode : 0;
    try {
      pending.finish();
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::io);
      return error.what();
    }
    return "";
  }
  std::string read(const std::string& name) const {
    std::ifstream in(folder / name / "config.json");
    return {std::istreambuf_iterator<char>(in), {}};
  }
  std::set<std::string> names() const {
    std::set<std::string> out;
    for (const auto& entry : fs::directory_iterator(folder)) out.insert(entry.path().filename().string());
    return out;
  }
  fs::path folder;
  ino_t inode = 0;
};
INSTANTIATE_TEST_SUITE_P(Both, PendingSyncTest, testing::Values(false, true),
                         [](const auto& param) { return param.param ? "Moved" : "Exchanged"; });

using Names = std::set<std::string>;

TEST_P(PendingSyncTest, TheOldFolderIsKeptAndNamed) {
  ASSERT_EQ(write("first", false), "");
  const std::string said = write("second", true);
  EXPECT_NE(said.find("sync"), std::string::npos) << said;
  EXPECT_NE(said.find("the old is kept: '" + (folder / ".model.ropewalk-kept").string() + "'"), std::string::npos)
      << said;
  EXPECT_EQ(names(), (Names{"model", ".model.ropewalk-kept"}));
  EXPECT_EQ(read("model"), "second");
  EXPECT_EQ(read(".model.ropewalk-kept"), "first");
  // neither the next run nor its failure takes what was promised
  EXPECT_NE(write("third", true).find("/.model.ropewalk-kept-2'"), std::string::npos);
  EXPECT_EQ(write("fourth", false), "");
  EXPECT_EQ(names(), (Names{"model", ".model.ropewalk-kept", ".model.ropewalk-kept-2"}));
  EXPECT_EQ(read("model"), "fourth");
  EXPECT_EQ(read(".model.ropewalk-kept"), "first");
  EXPECT_EQ(read(".model.ropewalk-kept-2"), "second");
}

TEST_P(PendingSyncTest, WithoutAnOldFolderThereIsNothingToName) {
  const std::string said = write("first", true);
  EXPECT_NE(said.find("sync"), std::string::npos) << said;
  EXPECT_EQ(said.find("kept"), std::string::npos) << said;
  EXPECT_EQ(names(), Names{"model"});
}

}  // namespace
}  // namespace ropewalk
