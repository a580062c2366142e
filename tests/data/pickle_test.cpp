// What a pickle may say beside plain values.
#include "archive/pickle.h"

#include <gtest/gtest.h>

#include <string>

#include "repquant/error.h"
#include "support/errors.h"

namespace repquant {
namespace {

internal::Pickle read(const std::string& text) {
  return internal::read_pickle({reinterpret_cast<const std::uint8_t*>(text.data()), text.size()},
                               "data.pkl");
}

// TorchScript calls an enumeration's class with the plain value, not with a tuple.
TEST(Pickle, ValuesOfAnEnumerationArePlain) {
  const internal::Pickle number = read(
      "\x80\x02"
      "c__torch__\nKind\nK\x07R.");
  EXPECT_EQ(number.at(number.root).kind, internal::PickleKind::kInt);
  EXPECT_EQ(number.at(number.root).number, 7);
  const internal::Pickle text =
      read(std::string("\x80\x02"
                       "c__torch__.timm\nFormat\nX\x04\0\0\0NHWCR.",
                       36));
  EXPECT_EQ(text.at(text.root).kind, internal::PickleKind::kString);
  EXPECT_EQ(text.at(text.root).text, "NHWC");
}

TEST(Pickle, OtherCallsTakeATuple) {
  EXPECT_ERROR(read("\x80\x02"
                    "cos\nsystem\nK\x07R."),
               ErrorKind::kFile, "an odd call");
  EXPECT_ERROR(read("\x80\x02"
                    "c__torch__\nKind\nNR."),
               ErrorKind::kFile, "an odd call");
}

}  // namespace
}  // namespace repquant
