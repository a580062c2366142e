#include "recipe/bit_width.h"

#include "support/errors.h"

namespace repquant {
namespace {

TEST(BitWidthTest, EveryValidPairRoundTrips) {
  for (int weight = 2; weight <= 8; ++weight) {
    for (const int activation : {2, 3, 4, 5, 6, 7, 8, 16}) {
      const BitWidths bits{weight, activation};
      EXPECT_EQ(parse_bits(to_string(bits)), bits);
    }
  }
}

TEST(BitWidthTest, ReadsTheTwoNumbersInOrder) {
  EXPECT_EQ(parse_bits("w4a8"), (BitWidths{4, 8}));
  EXPECT_EQ(parse_bits("W4A16"), (BitWidths{4, 16}));
  EXPECT_TRUE(parse_bits("w4a16").weight_only());
  EXPECT_FALSE(parse_bits("w4a8").weight_only());
}

TEST(BitWidthTest, RejectsEverythingElse) {
  for (const char* text : {"",         "w",
                           "w4",       "w4a",
                           "a4w4",     "4a4",
                           "w4a4 ",    " w4a4",
                           "w4a4x",    "w-4a4",
                           "w+4a4",    "w4.0a4",
                           "w1a4",     "w9a4",
                           "w0a8",     "w4a1",
                           "w4a9",     "w4a15",
                           "w4a17",    "w16a16",
                           "w4a16a16", "w99999999999999999999a4",
                           "int8",     "w44",
                           "w4b4"}) {
    EXPECT_ERROR(parse_bits(text), ErrorKind::kUsage, std::string("'") + text + "'");
  }
}

TEST(BitWidthTest, ErrorNamesThePlaceAndTheRange) {
  EXPECT_ERROR(parse_bits("w9a8", "REPQUANT_BITS"), ErrorKind::kUsage, "where: REPQUANT_BITS");
  EXPECT_ERROR(parse_bits("w9a8"), ErrorKind::kUsage, "weight bits are out of range");
  EXPECT_ERROR(parse_bits("w8a9"), ErrorKind::kUsage, "activation bits are out of range");
}

}  // namespace
}  // namespace repquant
