#include "lib/file.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <fstream>
#include <vector>

#include "lib/error.h"
#include "tests/unprivileged.h"

using namespace ropewalk;
namespace fs = std::filesystem;

namespace {

class FileTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (fs::temp_directory_path() / "ropewalk-file-XXXXXX").string();
    folder = ::mkdtemp(pattern.data());
  }
  void TearDown() override { fs::remove_all(folder); }
  fs::path text(const std::string& name, const std::string& content) {
    std::ofstream(folder / name) << content;
    return folder / name;
  }
  fs::path folder;
};

std::pair<ErrorKind, std::string> refusal(const auto& action) {
  try {
    action();
  } catch (const Error& error) {
    return {error.kind(), error.what()};
  }
  return {ErrorKind::usage, "(no error)"};
}

}  // namespace

TEST_F(FileTest, ReadsAnyRange) {
  const auto file = File::open(text("a", "0123456789"));
  EXPECT_EQ(file->size(), 10u);
  std::array<std::byte, 3> bytes;
  file->read(7, bytes);
  EXPECT_EQ(bytes, (std::array{std::byte{'7'}, std::byte{'8'}, std::byte{'9'}}));
  file->read(10, {});
}

TEST_F(FileTest, EndsEarly) {
  const fs::path path = text("a", "0123456789");
  const auto file = File::open(path);
  std::array<std::byte, 4> bytes;
  EXPECT_EQ(
      refusal([&] { file->read(7, bytes); }),
      std::pair(ErrorKind::bad_input,
                path.string() + ": byte 7: 4 bytes are needed, 3 are left; the file is cut short: fetch it again"));
  EXPECT_EQ(refusal([&] { file->read(UINT64_MAX - 1, bytes); }).first, ErrorKind::bad_input);  // the sum would wrap
  fs::resize_file(path, 8);                                                                    // it shrinks while open
  EXPECT_EQ(refusal([&] { file->read(5, bytes); }).second,
            path.string() + ": byte 5: 4 bytes are needed, 3 are left; the file is cut short: fetch it again");
}

TEST_F(FileTest, WhatIsNotAFile) {
  EXPECT_EQ(refusal([&] { File::open(folder / "none"); }).first, ErrorKind::bad_input);
  EXPECT_EQ(refusal([&] { File::open(folder); }),
            std::pair(ErrorKind::bad_input,
                      folder.string() + ": is a folder, expected a regular file; give the path of a file"));
  ASSERT_EQ(::mkfifo((folder / "pipe").c_str(), 0600), 0);
  EXPECT_NE(refusal([&] { File::open(folder / "pipe"); }).second.find("is a pipe"),
            std::string::npos);  // and does not wait for a writer
}

TEST_F(FileTest, WhatStandsAtAPath) {
  EXPECT_EQ(path_kind(folder / "none"), PathKind::missing);
  EXPECT_EQ(path_kind(text("a", "x")), PathKind::file);
  EXPECT_EQ(path_kind(folder / "a" / "below"), PathKind::missing);
  EXPECT_EQ(path_kind(folder), PathKind::folder);
  EXPECT_EQ(path_kind("/dev/null"), PathKind::other);
  EXPECT_EQ(path_kind(folder / std::string(300, 'x')), PathKind::missing);
  fs::create_symlink("loop", folder / "loop");
  EXPECT_EQ(refusal([&] { path_kind(folder / "loop"); }),
            std::pair(ErrorKind::bad_input, (folder / "loop").string() +
                                                ": cannot look at it: Too many levels of symbolic links; its links "
                                                "lead in a circle: put the file itself there"));
}

// In a child that is not root: this also runs where the tests do run as root.
TEST_F(FileTest, NoPermission) {
  const fs::path secret = text("secret", "x"), closed = folder / "closed";
  fs::create_directory(closed);
  std::ofstream(closed / "inner") << "x";
  ropewalk::test::hand_over(folder);
  fs::permissions(secret, fs::perms::none);
  fs::permissions(closed, fs::perms::none);
  const pid_t pid = ::fork();
  if (pid == 0) {
    if (!ropewalk::test::drop_root()) ::_exit(100);
    int wrong = 0;
    const std::string denied = "Permission denied; check the permissions of the file and its folder";
    wrong +=
        refusal([&] { File::open(secret); }) != std::pair(ErrorKind::io, secret.string() + ": cannot open: " + denied);
    wrong += refusal([&] { path_kind(closed / "inner"); }) !=
             std::pair(ErrorKind::io, (closed / "inner").string() + ": cannot look at it: " + denied);
    wrong += refusal([&] { require_readable_folder(closed); }) !=
             std::pair(ErrorKind::io, closed.string() + ": cannot read the folder: " + denied);
    wrong += path_kind(closed) != PathKind::folder;
    ::_exit(wrong);
  }
  int status = 0;
  ::waitpid(pid, &status, 0);
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
  fs::permissions(closed, fs::perms::owner_all);
}

TEST_F(FileTest, WhatAPathIsCalledHoweverItIsWritten) {
  for (const char* path : {"/a/b", "/a/b/", "/a/b//", "/a/./b/.", "/a/c/../b/", "//a/b"}) {
    EXPECT_EQ(last_part(path), "b") << path;
    EXPECT_EQ(whole_path(path).parent_path().filename(), "a") << path;
  }
  const fs::path here = fs::current_path();
  for (const char* path : {".", "./", "x/.."}) EXPECT_EQ(last_part(path), here.filename()) << path;
  EXPECT_EQ(last_part(".."), here.parent_path().filename());
  EXPECT_EQ(whole_path("b/"), here / "b");
  EXPECT_EQ(last_part("model.gguf"), "model.gguf");
  EXPECT_EQ(last_part("/"), "");
  EXPECT_EQ(last_part(""), "");
  fs::create_directory_symlink(folder, folder / "link");
  EXPECT_EQ(last_part(folder / "link/"), "link") << "the name that was given";
}

TEST_F(FileTest, TextIsCapped) {
  const fs::path path = text("a", "0123456789");
  EXPECT_EQ(read_text_file(path, 10), "0123456789");
  EXPECT_EQ(refusal([&] { read_text_file(path, 9); }).second,
            path.string() + ": has 10 bytes, at most 9 are accepted here; check that this is the right file");
}
