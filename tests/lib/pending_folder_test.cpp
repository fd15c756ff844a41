#include <chrono>
#include <csignal>
#include <map>
#include <thread>

#include "tests/lib/pending_outputs.h"
#include "tests/unprivileged.h"

using namespace ropewalk;

namespace {

class PendingFolderTest : public PendingOutputs {};
INSTANTIATE_TEST_SUITE_P(Both, PendingFolderTest, testing::Values(false, true),
                         [](const auto& param) { return param.param ? "Named" : "Unnamed"; });

}  // namespace

// A signal on another thread just before the names are given: once its handler removes what is pending, no folder takes
// the target's place any more, or the handler would empty that one. (Without the wait the target was gutted in one round
// of eight.)
TEST_P(PendingFolderTest, ASignalBesideAPublicationLeavesTheOldFolderOrTheNew) {
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

TEST_P(PendingFolderTest, FolderAppearsWhole) {
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

TEST_P(PendingFolderTest, FolderExists) {
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
TEST_P(PendingFolderTest, IntoAFolderThatMayNotBeRead) {
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

TEST_P(PendingFolderTest, OnlyAModelsFolderIsReplaced) {
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

TEST_P(PendingFolderTest, WhatTheNewFolderHasNotIsNotLostInSilence) {
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

TEST_P(PendingFolderTest, WhatACrashLeftDoesNotStopTheNextRun) {
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

TEST_P(PendingFolderTest, FolderThatAppearsMeanwhileIsKept) {
  PendingFolder pending(folder / "model", options());
  fs::create_directory(folder / "model");
  EXPECT_NE(refusal([&] { pending.finish(); }).find("exists already"), std::string::npos);
}
