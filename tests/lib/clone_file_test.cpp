#include "lib/clone_file.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>

#include "lib/error.h"

namespace ropewalk {
namespace {

namespace fs = std::filesystem;

class CloneFile : public testing::Test {
 protected:
  CloneFile() {
    std::string pattern = (fs::temp_directory_path() / "ropewalk-test-XXXXXX").string();
    folder = mkdtemp(pattern.data());
    std::ofstream(folder / "from", std::ios::binary) << content;
  }
  ~CloneFile() override { fs::remove_all(folder); }
  std::string read(const fs::path& path) {
    std::ifstream in(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
  }
  fs::path folder;
  std::string content = std::string(100'000, 'a') + "end";
};

TEST_F(CloneFile, CopiesAreFilesOfTheirOwn) {
  const CloneMethod method = clone_file(folder / "from", folder / "to", false, {});
  EXPECT_NE(method, CloneMethod::link);
  EXPECT_EQ(read(folder / "to"), content);
  EXPECT_FALSE(fs::equivalent(folder / "from", folder / "to"));
}

TEST_F(CloneFile, LinksOnlyWhenAllowed) {
  EXPECT_EQ(clone_file(folder / "from", folder / "to", true, {.sync = false}), CloneMethod::link);
  EXPECT_TRUE(fs::equivalent(folder / "from", folder / "to"));
}

TEST_F(CloneFile, ALinkToASymbolicLinkIsTheFile) {  // the Hub cache's snapshots are symbolic links
  fs::create_symlink(folder / "from", folder / "symbolic");
  EXPECT_EQ(clone_file(folder / "symbolic", folder / "to", true, {.sync = false}), CloneMethod::link);
  EXPECT_FALSE(fs::is_symlink(folder / "to"));
  EXPECT_EQ(read(folder / "to"), content);
}

TEST_F(CloneFile, NeverOverwrites) {
  std::ofstream(folder / "to") << "mine";
  EXPECT_THROW(clone_file(folder / "from", folder / "to", false, {.sync = false}), Error);
  EXPECT_EQ(read(folder / "to"), "mine");
}

}  // namespace
}  // namespace ropewalk
