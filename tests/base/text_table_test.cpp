#include "base/text_table.h"

#include <limits>

#include "support/errors.h"

namespace repquant {
namespace {

TEST(TextTableTest, AlignsColumns) {
  TextTable table({{"model"}, {"top-1", Align::kRight}});
  table.add_row({"fp32", "82.50"});
  table.add_row({"vit w4a4", "9.1"});
  table.add_rule();
  table.add_row({"x", ""});
  EXPECT_EQ(table.to_string(),
            "model     top-1\n"
            "--------  -----\n"
            "fp32      82.50\n"
            "vit w4a4    9.1\n"
            "--------  -----\n"
            "x\n");
}

TEST(TextTableTest, CountsCodePointsNotBytes) {
  TextTable table({{"a"}, {"b"}});
  table.add_row(
      {"\xC2\xB1"
       "1",
       "x"});
  table.add_row({"123", "y"});
  EXPECT_EQ(table.to_string(),
            "a    b\n---  -\n\xC2\xB1"
            "1   x\n123  y\n");
}

TEST(TextTableTest, WrongNumberOfCellsIsAnError) {
  TextTable table({{"a"}, {"b"}});
  EXPECT_ERROR(table.add_row({"1"}), ErrorKind::kInternal, "number of cells");
  EXPECT_ERROR(table.add_row({}), ErrorKind::kInternal, "number of cells");
}

TEST(FormatTest, Numbers) {
  EXPECT_EQ(format_number(12.345, 2), "12.35");
  EXPECT_EQ(format_number(-1, 0), "-1");
  EXPECT_EQ(format_number(std::numeric_limits<double>::quiet_NaN(), 2), "nan");
  EXPECT_EQ(format_number(-std::numeric_limits<double>::infinity(), 2), "-inf");
  EXPECT_EQ(format_number(std::numeric_limits<double>::max(), 1).size(), 311U);
}

TEST(FormatTest, Bytes) {
  EXPECT_EQ(format_bytes(0), "0 B");
  EXPECT_EQ(format_bytes(999), "999 B");
  EXPECT_EQ(format_bytes(1000), "1.00 kB");
  EXPECT_EQ(format_bytes(1769472), "1.77 MB");
  EXPECT_EQ(format_bytes(22900000), "22.9 MB");
  EXPECT_EQ(format_bytes(999600), "1.00 MB");
  EXPECT_EQ(format_bytes(88.2e9), "88.2 GB");
  EXPECT_EQ(format_bytes(5e15), "5000 TB");
}

TEST(FormatTest, Durations) {
  EXPECT_EQ(format_duration(0.354), "0.35 s");
  EXPECT_EQ(format_duration(4.26), "4.3 s");
  EXPECT_EQ(format_duration(12.4), "12 s");
  EXPECT_EQ(format_duration(59.6), "1 min 00 s");
  EXPECT_EQ(format_duration(200), "3 min 20 s");
  EXPECT_EQ(format_duration(7500), "2 h 05 min");
  EXPECT_EQ(format_duration(-1), "unknown");
}

TEST(WithoutControl, EscapesWhatSteersATerminal) {
  EXPECT_EQ(without_control("plain\ttext\nünïcode €"), "plain\ttext\nünïcode €");
  EXPECT_EQ(without_control("a\x1b[2Jb\r\x7f"), "a\\x1b[2Jb\\x0d\\x7f");
  EXPECT_EQ(without_control("\xc2\x9b"
                            "0m \xc2\xa0"),
            "\\x9b0m \xc2\xa0");
  EXPECT_EQ(without_control(std::string_view("\0", 1)), "\\x00");
}

}  // namespace
}  // namespace repquant
