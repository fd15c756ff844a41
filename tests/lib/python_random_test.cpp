// What Python 3.11's random module draws.
#include "lib/python_random.h"

#include <gtest/gtest.h>

namespace ropewalk {
namespace {

using Indices = std::vector<std::size_t>;

// [random.Random(seed)._randbelow(n) for n in ...]
TEST(PythonRandom, Below) {
  {
    PythonRandom random(0u);
    Indices drawn;
    for (const std::size_t n : {1ul, 2ul, 3ul, 7ul, 64ul, 1000ul, 4294967295ul}) drawn.push_back(random.below(n));
    EXPECT_EQ(drawn, (Indices{0, 1, 0, 2, 62, 414, 3943786419}));
  }
  {
    PythonRandom random(1234u);
    Indices drawn;
    for (const std::size_t n : {1ul, 2ul, 3ul, 7ul, 64ul, 1000ul, 4294967295ul}) drawn.push_back(random.below(n));
    EXPECT_EQ(drawn, (Indices{0, 0, 0, 0, 4, 687, 2976787804}));
  }
  {
    PythonRandom random(4294967295u);
    Indices drawn;
    for (const std::size_t n : {1ul, 2ul, 3ul, 7ul, 64ul, 1000ul, 4294967295ul}) drawn.push_back(random.below(n));
    EXPECT_EQ(drawn, (Indices{0, 0, 2, 4, 37, 617, 1460408326}));
  }
}

// random.Random(1234).sample(range(n), count), one after the other: lists, sets and the border between them
TEST(PythonRandom, Sample) {
  PythonRandom random(1234);
  EXPECT_EQ(random.sample(7, 3), (Indices{6, 3, 0}));
  EXPECT_EQ(random.sample(7, 7), (Indices{0, 6, 4, 5, 2, 3, 1}));
  EXPECT_EQ(random.sample(21, 5), (Indices{11, 7, 0, 18, 17}));
  EXPECT_EQ(random.sample(22, 5), (Indices{11, 20, 19, 15, 14}));
  EXPECT_EQ(random.sample(85, 6), (Indices{19, 11, 23, 14, 1, 64}));
  EXPECT_EQ(random.sample(86, 6), (Indices{62, 31, 8, 85, 69, 59}));
  EXPECT_EQ(random.sample(1119, 25), (Indices{140,  182, 1054, 94,  552, 129, 619, 985, 727, 545, 510, 409, 928,
                                              1085, 39,  1040, 144, 11,  683, 294, 968, 772, 342, 110, 156}));
  EXPECT_EQ(random.sample(14042, 26),
            (Indices{9626,  8135, 2687, 1234, 9131, 3524, 2363,  444,   5672, 12631, 1816, 8678, 2313,
                     10985, 5003, 7440, 648,  6819, 4534, 10852, 13213, 658,  2905,  4451, 2532, 4919}));
  EXPECT_EQ(random.sample(5, 0), (Indices{}));
  PythonRandom other(7);  // past the generator's first words
  std::size_t sum = 0;
  for (int i = 0; i < 2000; ++i) {
    std::size_t of = 0, place = 0;
    for (const std::size_t index : other.sample(300, 11)) of += ++place * index;
    sum = (sum * 31 + of) % 1000003;
  }
  EXPECT_EQ(sum, 384138u);
}

}  // namespace
}  // namespace ropewalk
