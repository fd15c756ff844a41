#include "lib/shortest.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>

namespace ropewalk {
namespace {

TEST(Shortest, ReadsBackAsItWasWithNoDigitTooMany) {
  EXPECT_EQ(shortest(0.1), "0.1");
  EXPECT_EQ(shortest(double(0.1f)), "0.1");  // the float, not 0.10000000149011612
  EXPECT_EQ(shortest(double(1e-5f)), "1e-05");
  EXPECT_EQ(shortest(1.0 / 3), "0.3333333333333333");
  EXPECT_EQ(shortest(4096), "4096");
  EXPECT_EQ(shortest(-2), "-2");
  EXPECT_EQ(shortest(1e60), "1e+60");
  EXPECT_EQ(shortest(std::nan("")), "nan");
  EXPECT_EQ(shortest(INFINITY), "inf");
  for (const double value : {2.5e-300, 1e15, 1e15 + 0.5, 5e-324, 123456.789})
    EXPECT_EQ(std::strtod(shortest(value).c_str(), nullptr), value);
}

}  // namespace
}  // namespace ropewalk
