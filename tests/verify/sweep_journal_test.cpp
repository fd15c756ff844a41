// A sweep that is cut short after any of its layers and goes on: the same bits as one that was not.
#include "verify/sweep_journal.h"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>

#include "lib/error.h"
#include "tests/formats/hf_test_support.h"
#include "tests/verify/random_model.h"
#include "verify/reference.h"
#include "verify/sweep.h"

namespace ropewalk::verify {
namespace {

namespace fs = std::filesystem;

struct Cut {};

/// The lowest bit of its last value is another.
TensorPtr with_changed_value(const TensorPtr& tensor) {
  std::vector<float> values(tensor->info().elements());
  tensor->read_f32({0, tensor->info().rows()}, values);
  values.back() = std::nextafter(values.back(), 1e9f);
  return memory_tensor(tensor->name(), tensor->info().shape, values);
}

class Journal : public testing::Test {
 protected:
  fs::path file() const { return folder / "left"; }
  SweepJournal::Options options(bool overwrite = false) {
    return {.file = file(),
            .every = std::chrono::seconds(0),
            .overwrite = overwrite,
            .threads = 2,
            .release = "1",
            .say = [this](const std::string& line) { said.push_back(line); }};
  }
  /// sweep(options) cut short when `layers` are done, by what progress throws.
  template <class Sweep>
  void cut_after(int layers, Sweep sweep) {
    SweepJournal journal(options());
    SweepOptions how{.threads = 1, .progress = [&](int done) {
                       if (done == layers) throw Cut();
                     }};
    how.journal = &journal;
    EXPECT_THROW(sweep(how), Cut);
  }
  /// The same, not cut.
  template <class Sweep>
  auto go_on(Sweep sweep) {
    SweepJournal journal(options());
    SweepOptions how{.threads = 3, .progress = [this](int done) { first_layer = std::min(first_layer, done); }};
    how.journal = &journal;
    first_layer = 1000;
    auto result = sweep(how);
    journal.remove();
    EXPECT_FALSE(fs::exists(file()));
    return result;
  }
  /// Layers 1 to 3 of the three, each in its turn.
  template <class Sweep, class Same>
  void cut_everywhere(Sweep sweep, Same same) {
    const auto whole = sweep(SweepOptions{});
    for (int layers = 1; layers <= 3; ++layers) {
      cut_after(layers, sweep);
      ASSERT_TRUE(fs::exists(file()));
      same(go_on(sweep), whole);
      EXPECT_EQ(first_layer, layers) << "what was done is not done again";
    }
  }
  formats::TestFolder folder;
  std::vector<std::string> said;
  int first_layer = 1000;
  Checkpoint a = random_model(awkward_config(), 1), b = random_model(awkward_config(), 2);
  std::vector<Window> windows = {{1, 5, 9, 200, 33, 7, 8, 9, 10, 11}, {3, 2, 1}};
};

TEST_F(Journal, ScoresGoOnAfterAnyLayer) {
  cut_everywhere([&](const SweepOptions& how) { return score(a, windows, how); },
                 [&](const auto& found, const auto& whole) {
                   for (std::size_t w = 0; w < whole.size(); ++w) {
                     ASSERT_EQ(found[w].size(), whole[w].size());
                     for (std::size_t t = 0; t < whole[w].size(); ++t) {
                       EXPECT_EQ(found[w][t].nll, whole[w][t].nll);
                       EXPECT_EQ(found[w][t].argmax, whole[w][t].argmax);
                       EXPECT_EQ(found[w][t].entropy, whole[w][t].entropy);
                     }
                   }
                 });
  EXPECT_EQ(said.at(0), "goes on from " + file().string() + ": layer 1 of 3 done");
}

TEST_F(Journal, ComparisonsGoOnAfterAnyLayer) {
  cut_everywhere([&](const SweepOptions& how) { return compare(a, b, windows, how); },
                 [&](const PairResult& found, const PairResult& whole) {
                   EXPECT_EQ(found.layer_distance, whole.layer_distance);
                   for (std::size_t w = 0; w < whole.scores.size(); ++w)
                     for (std::size_t t = 0; t < whole.scores[w].size(); ++t) {
                       EXPECT_EQ(found.scores[w][t].kl, whole.scores[w][t].kl);
                       EXPECT_EQ(found.scores[w][t].nll_a, whole.scores[w][t].nll_a);
                       EXPECT_EQ(found.scores[w][t].nll_b, whole.scores[w][t].nll_b);
                     }
                 });
}

TEST_F(Journal, SavedReferencesGoOnAfterAnyLayer) {
  cut_everywhere([&](const SweepOptions& how) { return make_reference(a, windows, 10, how); },
                 [&](const auto& found, const auto& whole) {
                   EXPECT_EQ(formats::reference_bytes(found), formats::reference_bytes(whole));
                 });
  const formats::SavedReference reference = make_reference(a, windows, 10, {});
  cut_everywhere([&](const SweepOptions& how) { return compare_with_reference(reference, b, how); },
                 [&](const ReferenceResult& found, const ReferenceResult& whole) {
                   EXPECT_EQ(found.pair.layer_distance, whole.pair.layer_distance);
                   EXPECT_EQ(found.kl_least, whole.kl_least);
                 });
}

TEST_F(Journal, FinishedSweepsAreNotDoneAgain) {
  const std::span<const Window> first(windows.data(), 1), second(windows.data() + 1, 1);
  const auto both = [&](const SweepOptions& how) { return std::pair(score(a, first, how), score(b, second, how)); };
  const auto whole = both({});
  int layers = 0;
  {
    SweepJournal journal(options());
    SweepOptions how{.progress = [&](int done) {
      if (++layers == 6 && done == 1) throw Cut();  // 0 to 3 of the first, 0 and 1 of the second
    }};
    how.journal = &journal;
    EXPECT_THROW(both(how), Cut);
  }
  const auto found = go_on(both);
  EXPECT_EQ(first_layer, 1);
  EXPECT_EQ(said, (std::vector<std::string>{"goes on from " + file().string() + ": 1 sweep done",
                                            "goes on from " + file().string() + ": layer 1 of 3 done"}));
  EXPECT_EQ(found.first[0][0].nll, whole.first[0][0].nll);
  EXPECT_EQ(found.second[0][1].nll, whole.second[0][1].nll);
}

TEST_F(Journal, WhatIsOfAnotherRunIsNotTakenUp) {
  cut_after(2, [&](const SweepOptions& how) { return score(a, windows, how); });
  const auto refused = [&](auto sweep, SweepJournal::Options with) {
    SweepJournal journal(std::move(with));
    SweepOptions how;
    how.journal = &journal;
    try {
      sweep(how);
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::io);
      EXPECT_NE(std::string(error.what()).find("is of another run"), std::string::npos) << error.what();
      return true;
    }
    return false;
  };
  const auto of = [&](const Checkpoint& model, const std::vector<Window>& some) {
    return [&model, &some](const SweepOptions& how) { score(model, some, how); };
  };
  EXPECT_TRUE(refused(of(b, windows), options())) << "other weights";
  Checkpoint bent = a;
  bent.tensors.back() = with_changed_value(bent.tensors.back());
  EXPECT_TRUE(refused(of(bent, windows), options())) << "one bit of one weight";
  bent = a;
  bent.config.rope.theta = 101;
  EXPECT_TRUE(refused(of(bent, windows), options())) << "another rope";
  bent = a;
  bent.config.rms_eps = 1e-6;
  EXPECT_TRUE(refused(of(bent, windows), options())) << "another configuration";
  std::vector<Window> other = windows;
  other[1][2] = 2;
  EXPECT_TRUE(refused(of(a, other), options())) << "another text";
  other = {windows[0]};
  EXPECT_TRUE(refused(of(a, other), options())) << "fewer windows";
  EXPECT_TRUE(refused([&](const SweepOptions& how) { make_reference(a, windows, 10, how); }, options()));
  SweepJournal::Options later = options();
  later.release = "2";
  EXPECT_TRUE(refused(of(a, windows), later)) << "another release";
  EXPECT_TRUE(fs::exists(file()));
  said.clear();
  EXPECT_FALSE(refused(of(b, windows), options(true))) << "--overwrite";
  EXPECT_EQ(said, (std::vector<std::string>{file().string() + " is of another run (--overwrite: begins anew)"}));
}

TEST_F(Journal, NothingIsWrittenBeforeItsTime) {
  SweepJournal::Options rare = options();
  rare.every = std::chrono::hours(1);
  SweepJournal journal(rare);
  SweepOptions how;
  how.journal = &journal;
  score(a, windows, how);
  EXPECT_FALSE(fs::exists(file()));
}

}  // namespace
}  // namespace ropewalk::verify
