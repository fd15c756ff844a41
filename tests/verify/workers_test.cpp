#include "verify/workers.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "verify/weight_stream.h"

namespace ropewalk::verify {
namespace {

// Piece 3 fails late and piece 40 at once: which of them is told must not depend on which came first.
TEST(Workers, TheLowestFailingPieceIsTold) {
  for (const int threads : {1, 2, 4}) {
    const Workers workers(threads);
    std::string told;
    std::vector<std::atomic<int>> ran(64);
    try {
      workers.for_each(ran.size(), [&](std::size_t index, std::size_t) {
        ++ran[index];
        if (index == 3) std::this_thread::sleep_for(std::chrono::milliseconds(20));
        if (index == 3 || index == 40) throw std::runtime_error(std::to_string(index));
      });
    } catch (const std::runtime_error& error) {
      told = error.what();
    }
    EXPECT_EQ(told, "3") << threads;
    for (std::size_t index = 0; index <= 3; ++index) EXPECT_EQ(ran[index], 1) << threads << " " << index;
  }
}

TEST(Workers, EveryPieceRunsOnceWhereNoneFails) {
  std::vector<std::atomic<int>> ran(1000);
  Workers(3).for_each(ran.size(), [&](std::size_t index, std::size_t slot) {
    EXPECT_LT(slot, 3u);
    ++ran[index];
  });
  for (const std::atomic<int>& times : ran) EXPECT_EQ(times, 1);
}

TEST(WeightStream, TheFirstFailingPieceIsToldInOrder) {
  std::vector<std::byte> buffers(8);
  std::vector<std::span<std::byte>> ring;
  for (std::byte& byte : buffers) ring.emplace_back(&byte, 1);
  std::vector<WeightStream::Piece> pieces;
  for (int index = 0; index < 8; ++index)
    pieces.push_back({1, [index](std::span<std::byte> buffer) {
                        if (index == 2) std::this_thread::sleep_for(std::chrono::milliseconds(20));
                        if (index == 2 || index == 5) throw std::runtime_error(std::to_string(index));
                        buffer[0] = std::byte(index);
                      }});
  WeightStream stream(pieces, 4, 1);
  stream.start([&] { return ring; });
  EXPECT_EQ(stream.wait(0)[0], std::byte{0});
  stream.release(0, 0);
  EXPECT_EQ(stream.wait(1)[0], std::byte{1});
  stream.release(1, 0);
  try {
    stream.wait(2);
    FAIL() << "piece 2 was read";
  } catch (const std::runtime_error& error) {
    EXPECT_STREQ(error.what(), "2");
  }
}

// Of three takers of a ring of two one is slow and one leaves: what is read is read once, nothing is overwritten before
// all have it, and nobody waits for who has left.
TEST(WeightStream, EveryTakerGetsEveryPieceAndItIsReadOnce) {
  std::vector<std::byte> buffers(2);
  const std::vector<std::span<std::byte>> ring = {{&buffers[0], 1}, {&buffers[1], 1}};
  std::atomic<int> reads = 0;
  int rings = 0;
  std::vector<WeightStream::Piece> pieces;
  for (int index = 0; index < 100; ++index)
    pieces.push_back({1, [index, &reads](std::span<std::byte> buffer) { ++reads, buffer[0] = std::byte(index); }});
  WeightStream stream(pieces, 3, 3);
  const auto take = [&](std::size_t taker, std::size_t until) {
    stream.start([&] { return ++rings, ring; });
    int wrong = 0;
    for (std::size_t index = 0; index < until; ++index) {
      const std::byte value = stream.wait(index)[0];
      if (taker == 1) std::this_thread::sleep_for(std::chrono::microseconds(100));
      wrong += value == std::byte(index) && stream.wait(index)[0] == value ? 0 : 1;
      stream.release(index, taker);
    }
    EXPECT_EQ(wrong, 0) << taker;
    stream.leave(taker);
  };
  {
    const std::jthread one([&] { take(0, 100); }), slow([&] { take(1, 100); }), leaving([&] { take(2, 17); });
  }
  EXPECT_EQ(reads, 100);
  EXPECT_EQ(rings, 1);
}

TEST(WeightStream, NothingIsReadForNobody) {
  std::vector<std::byte> buffers(2);
  std::atomic<int> reads = 0;
  const std::vector<WeightStream::Piece> pieces(50, {1, [&](std::span<std::byte>) { ++reads; }});
  WeightStream stream(pieces, 2, 2);
  stream.leave(0);
  stream.start([&] { return std::vector<std::span<std::byte>>{{&buffers[0], 1}, {&buffers[1], 1}}; });
  stream.wait(0);
  stream.leave(1);
  EXPECT_LE(reads, 2 + 2) << "a ring, and what the readers had in hand";
}

}  // namespace
}  // namespace ropewalk::verify
