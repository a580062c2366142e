#include "tensor/shape_text.h"

#include <gtest/gtest.h>

namespace repquant {
namespace {

TEST(ShapeText, IsAList) {
  EXPECT_EQ(shape_text({2, 3, 4}), "[2, 3, 4]");
  EXPECT_EQ(shape_text({}), "[]");
}

}  // namespace
}  // namespace repquant
