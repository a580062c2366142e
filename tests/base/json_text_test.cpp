#include "base/json_text.h"

#include "support/errors.h"
#include "support/temp_dir.h"

namespace repquant {
namespace {

using testing::TempDir;
using testing::write_text;

TEST(JsonTextTest, KeepsOrderAndValues) {
  EXPECT_EQ(parse_json(R"({"b": 1, "a": [true, null, 2.5]})", "").dump(),
            R"({"b":1,"a":[true,null,2.5]})");
  EXPECT_EQ(parse_json("7", ""), 7);
}

TEST(JsonTextTest, MalformedTextNamesLineAndColumn) {
  EXPECT_ERROR(parse_json("{\n  \"a\": 1,\n}", "r.json"), ErrorKind::kUsage, "r.json, line 3");
  EXPECT_ERROR(parse_json("", "r.json"), ErrorKind::kUsage, "malformed JSON");
  EXPECT_ERROR(parse_json("{} {}", "r.json"), ErrorKind::kUsage, "malformed JSON");
  EXPECT_ERROR(parse_json("[1,]", "r.json"), ErrorKind::kUsage, "malformed JSON");
  EXPECT_ERROR(parse_json("[1e999]", "r.json"), ErrorKind::kUsage, "malformed JSON");
  EXPECT_ERROR(parse_json("[NaN]", "r.json"), ErrorKind::kUsage, "malformed JSON");
  EXPECT_ERROR(parse_json("PK\x03\x04 and so on", "m.pt"), ErrorKind::kUsage, "a zip archive");
  EXPECT_ERROR(parse_json("\x80\x02", "m.pkl"), ErrorKind::kUsage, "a binary file");
  EXPECT_ERROR(parse_json("\"\xff\"", "r.json"), ErrorKind::kUsage, "malformed JSON");
}

TEST(JsonTextTest, DuplicateKeysAreNamedByPointer) {
  EXPECT_ERROR(parse_json(R"({"a": 1, "a": 2})", "r.json"), ErrorKind::kUsage, "r.json#/a");
  EXPECT_ERROR(parse_json(R"({"x": [0, {"k/1": {}, "k/1": 2}]})", ""), ErrorKind::kUsage,
               "where: /x/1/k~11");
  // The same key in different objects is none.
  EXPECT_EQ(parse_json(R"([{"a": 1}, {"a": {"a": 2}}])", "").size(), 2U);
}

TEST(JsonTextTest, DepthIsLimited) {
  const auto nested = [](std::size_t depth) {
    return std::string(depth, '[') + std::string(depth, ']');
  };
  parse_json(nested(16), "");
  EXPECT_ERROR(parse_json(nested(17), ""), ErrorKind::kUsage, "nested too deeply");
  EXPECT_ERROR(parse_json(std::string(500000, '['), ""), ErrorKind::kUsage, "nested too deeply");
}

TEST(JsonTextTest, SizeIsLimited) {
  const JsonLimits limits{.bytes = 10, .depth = 2};
  parse_json("[1,2,3,45]", "", limits);
  EXPECT_ERROR(parse_json("[1,2,3,456]", "r", limits), ErrorKind::kUsage, "too large");
  const TempDir dir;
  write_text(dir / "large", "[" + std::string(2000000, ' ') + "]");
  EXPECT_ERROR(read_json(dir / "large"), ErrorKind::kUsage, "too large");
}

TEST(JsonTextTest, UnreadableFiles) {
  const TempDir dir;
  EXPECT_ERROR(read_json(dir / "none"), ErrorKind::kFile, "No such file");
  EXPECT_ERROR(read_json(dir.path()), ErrorKind::kFile, "a directory");
}

TEST(JsonTextTest, DescribesValues) {
  EXPECT_EQ(describe_json("x"), "the string \"x\"");
  EXPECT_EQ(describe_json(1.5), "the number 1.5");
  EXPECT_EQ(describe_json(nullptr), "null");
  EXPECT_EQ(describe_json(false), "false");
  EXPECT_EQ(describe_json(Json::object()), "an object");
  EXPECT_LT(describe_json(std::string(1000, 'x')).size(), 100U);
}

}  // namespace
}  // namespace repquant
