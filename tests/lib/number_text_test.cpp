#include "lib/number_text.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>

namespace ropewalk {
namespace {

TEST(RoundTripText, ReadsBackAsItWasWithNoDigitTooMany) {
  EXPECT_EQ(round_trip_text(0.1), "0.1");
  EXPECT_EQ(round_trip_text(double(0.1f)), "0.1");  // the float, not 0.10000000149011612
  EXPECT_EQ(round_trip_text(double(1e-5f)), "1e-05");
  EXPECT_EQ(round_trip_text(1.0 / 3), "0.3333333333333333");
  EXPECT_EQ(round_trip_text(4096), "4096");
  EXPECT_EQ(round_trip_text(-2), "-2");
  EXPECT_EQ(round_trip_text(1e60), "1e+60");
  EXPECT_EQ(round_trip_text(std::nan("")), "nan");
  EXPECT_EQ(round_trip_text(INFINITY), "inf");
  for (const double value : {2.5e-300, 1e15, 1e15 + 0.5, 5e-324, 123456.789})
    EXPECT_EQ(std::strtod(round_trip_text(value).c_str(), nullptr), value);
}

}  // namespace
}  // namespace ropewalk
