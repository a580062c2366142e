#include "data/arrays.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/api/include/torch/serialize.h>
#include <torch/csrc/jit/serialization/pickle.h>

#include <fstream>

#include "fixtures.h"
#include "support/errors.h"
#include "support/temp_dir.h"

namespace repquant {
namespace {

using testing::fixture;
using testing::TempDir;
using testing::write_text;

at::Tensor base() { return at::arange(24, at::kFloat).reshape({2, 3, 4}); }

at::Tensor npy(const std::string& name) { return read_npy(fixture("arrays/" + name + ".npy")); }

TEST(Npy, ReadsEveryNumberType) {
  const std::vector<std::pair<const char*, at::ScalarType>> types{
      {"f2", at::kHalf},  {"f4", at::kFloat}, {"f8", at::kDouble}, {"i1", at::kChar},
      {"i2", at::kShort}, {"i4", at::kInt},   {"i8", at::kLong},   {"u1", at::kByte},
      {"u2", at::kInt},   {"u4", at::kLong},  {"u8", at::kLong}};
  for (const auto& [name, type] : types) {
    const at::Tensor tensor = npy(std::string("c_") + name);
    EXPECT_EQ(tensor.scalar_type(), type) << name;
    EXPECT_TRUE(at::equal(tensor.to(at::kFloat), base())) << name;
  }
  EXPECT_TRUE(at::equal(npy("c_bool"), base().remainder(2).to(at::kBool)));
  EXPECT_TRUE(at::equal(npy("unsigned_limits"), at::tensor({std::int64_t{0}, std::int64_t{1} << 31,
                                                            (std::int64_t{1} << 32) - 1})));
}

TEST(Npy, ReadsOrdersShapesAndVersions) {
  EXPECT_TRUE(at::equal(npy("fortran"), base()));
  EXPECT_TRUE(at::equal(npy("version2"), base()));
  EXPECT_TRUE(at::equal(npy("version3"), base()));
  EXPECT_EQ(npy("scalar").dim(), 0);
  EXPECT_EQ(npy("scalar").item<float>(), 2.5F);
}

TEST(Npy, WritingToATensorLeavesTheFile) {
  const TempDir dir;
  std::filesystem::copy_file(fixture("arrays/c_f4.npy"), dir / "a.npy");
  read_npy(dir / "a.npy").zero_();
  EXPECT_TRUE(at::equal(read_npy(dir / "a.npy"), base()));
}

TEST(Npy, OtherTypesAreErrors) {
  for (const char* name : {"big_endian", "complex", "object", "structured"}) {
    EXPECT_ERROR(npy(name), ErrorKind::kFile, "element type");
  }
  EXPECT_ERROR(npy("too_large_unsigned"), ErrorKind::kFile, "does not fit int64");
}

std::string npy_text(const std::string& header, const std::string& data) {
  std::string text = std::string("\x93NUMPY\x01\x00", 8);
  text += static_cast<char>(header.size() & 0xFF);
  text += static_cast<char>(header.size() >> 8);
  return text + header + data;
}

at::Tensor parse(const std::string& text) {
  return parse_npy(Bytes(reinterpret_cast<const std::uint8_t*>(text.data()), text.size()), "a.npy");
}

TEST(Npy, HeadersAreParsedDefensively) {
  const std::string good = "{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }\n";
  EXPECT_TRUE(at::equal(parse(npy_text(good, std::string(8, '\0'))), at::zeros({2})));
  EXPECT_EQ(
      parse(npy_text("{\"shape\":(1L,),\"descr\":'|u1','fortran_order':True}", "x")).item<int>(),
      'x');
  EXPECT_ERROR(parse(npy_text(good, std::string(7, '\0'))), ErrorKind::kFile, "truncated");
  EXPECT_ERROR(parse(npy_text(good, std::string(9, '\0'))), ErrorKind::kFile, "after its array");

  const auto with_shape = [](const std::string& shape) {
    return npy_text("{'descr': '<f4', 'fortran_order': False, 'shape': " + shape + "}", "");
  };
  for (const char* shape : {"(4611686018427387904, 4)", "(0, 9223372036854775807, 9)",
                            "(99999999999999999999,)", "(2)", "(-1,)", "(1.5,)", "[1]", "(1", ""}) {
    EXPECT_ERROR(parse(with_shape(shape)), ErrorKind::kFile, "a.npy");
  }
  for (const char* header :
       {"", "{", "{}", "{'descr': '<f4'}", "{'descr': '<f4', 'descr': '<f4'}",
        "{'descr': '<f4', 'fortran_order': 0, 'shape': ()}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (), 'more': 1}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': ()} x", "{'descr"}) {
    EXPECT_ERROR(parse(npy_text(header, "abcd")), ErrorKind::kFile, "a.npy");
  }
  EXPECT_ERROR(parse("\x93NUMPY\x09"), ErrorKind::kFile, "truncated");
  EXPECT_ERROR(parse(std::string("\x93NUMPY\x09\x00\x00\x00\x00\x00", 12)), ErrorKind::kFile,
               "version");
  EXPECT_ERROR(parse(npy_text("{'descr': '|b1', 'fortran_order': False, 'shape': (1,)}", "\x02")),
               ErrorKind::kFile, "bool");
}

TEST(Npz, ReadsStoredAndDeflated) {
  const Arrays stored = read_npz(fixture("arrays/stored.npz"));
  EXPECT_EQ(stored.names, (std::vector<std::string>{"pixels", "ids"}));
  EXPECT_TRUE(at::equal(stored.tensors[0], base()));
  EXPECT_TRUE(at::equal(stored.tensors[1], base().to(at::kLong)));
  const Arrays deflated = read_npz(fixture("arrays/deflated.npz"));
  EXPECT_EQ(deflated.names, (std::vector<std::string>{"pixels", "y"}));
  EXPECT_TRUE(at::equal(deflated.tensors[0], base()));
}

TEST(Npz, NumbersAreNotNames) {
  const Arrays arrays = read_npz(fixture("arrays/positional.npz"));
  EXPECT_TRUE(arrays.names.empty());
  ASSERT_EQ(arrays.tensors.size(), 2U);
  EXPECT_TRUE(at::equal(arrays.tensors[1], base().to(at::kLong)));
}

// A fuzzer's finding: 550 bytes with a stored array of 2 GB.
TEST(Npz, EntriesAreNoLargerThanTheFile) {
  EXPECT_ERROR(read_npz(fixture("forged/size.npz")), ErrorKind::kFile,
               "claim more than the file holds");
}

TEST(Npz, DamageIsAnError) {
  const TempDir dir;
  const auto bytes = read_bytes(fixture("arrays/deflated.npz"));
  const std::string text(bytes.begin(), bytes.end());
  write_text(dir / "cut.npz", text.substr(0, text.size() - 30));
  EXPECT_ERROR(read_npz(dir / "cut.npz"), ErrorKind::kFile, "cut.npz");
  std::string flipped = text;
  flipped[60] = static_cast<char>(flipped[60] ^ 0x20);
  write_text(dir / "flipped.npz", flipped);
  EXPECT_ERROR(read_npz(dir / "flipped.npz"), ErrorKind::kFile, "flipped.npz");
  EXPECT_ERROR(read_npz(fixture("arrays/tensor.pt")), ErrorKind::kFile, "not an array");
}

TEST(Pt, ReadsWhatPythonSaves) {
  const auto read = [](const std::string& name) {
    return read_pt(fixture("arrays/" + name + ".pt"));
  };
  EXPECT_TRUE(at::equal(read("tensor").tensors.at(0), base()));
  EXPECT_TRUE(at::equal(read("view").tensors.at(0), base().transpose(0, 2).slice(0, 1)));
  const Arrays parameter = read("parameter");
  EXPECT_TRUE(at::equal(parameter.tensors.at(0), base()));
  EXPECT_FALSE(parameter.tensors[0].requires_grad());
  const Arrays list = read("list");
  EXPECT_TRUE(list.names.empty());
  EXPECT_TRUE(at::equal(list.tensors.at(1), base().to(at::kLong)));
  EXPECT_TRUE(at::equal(read("tuple").tensors.at(1), base().to(at::kBool)));
  const Arrays dict = read("dict");
  EXPECT_EQ(dict.names, (std::vector<std::string>{"pixels", "labels"}));
  EXPECT_TRUE(at::equal(dict.tensors.at(1), at::tensor({5, 6}, at::kLong)));
  const Arrays module = read("module");
  EXPECT_EQ(module.names, (std::vector<std::string>{"pixels", "ids"}));
  EXPECT_TRUE(at::equal(module.tensors.at(1), base().to(at::kLong)));
}

TEST(Pt, ReadsWhatLibTorchSaves) {
  const TempDir dir;
  torch::save(base(), (dir / "one.pt").string());
  EXPECT_TRUE(at::equal(read_pt(dir / "one.pt").tensors.at(0), base()));
  EXPECT_TRUE(read_pt(dir / "one.pt").names.empty());
  torch::save(std::vector<at::Tensor>{base(), base().to(at::kLong)}, (dir / "two.pt").string());
  EXPECT_TRUE(at::equal(read_pt(dir / "two.pt").tensors.at(1), base().to(at::kLong)));

  c10::Dict<std::string, at::Tensor> dict;
  dict.insert("pixels", base());
  const std::vector<char> bytes = torch::jit::pickle_save(dict);
  write_text(dir / "dict.pt", std::string_view(bytes.data(), bytes.size()));
  EXPECT_EQ(read_pt(dir / "dict.pt").names, (std::vector<std::string>{"pixels"}));
}

TEST(Pt, OnlyTensorsAreAccepted) {
  EXPECT_ERROR(read_pt(fixture("arrays/dict_with_text.pt")), ErrorKind::kFile,
               "something other than tensors");
  EXPECT_ERROR(read_pt(fixture("arrays/nested.pt")), ErrorKind::kFile,
               "something other than tensors");
  EXPECT_ERROR(read_pt(fixture("arrays/model.pt")), ErrorKind::kFile, "submodules");
  EXPECT_ERROR(read_pt(fixture("arrays/code.pt")), ErrorKind::kFile, "code.pt");
  EXPECT_ERROR(read_arrays(fixture("arrays/legacy.pt")), ErrorKind::kFile, "1.6");
  EXPECT_ERROR(read_pt(fixture("arrays/stored.npz")), ErrorKind::kFile, "data.pkl");
}

// The pickle states 24 elements; the storage in the archive has only 6.
TEST(Pt, SizesBeyondTheStorageAreErrors) {
  EXPECT_ERROR(read_pt(fixture("arrays/forged_storage.pt")), ErrorKind::kFile,
               "larger than its data");
  EXPECT_ERROR(read_pt(fixture("arrays/forged_shape.pt")), ErrorKind::kFile, "forged_shape.pt");
}

TEST(Arrays, ContentDecides) {
  const TempDir dir;
  std::filesystem::copy_file(fixture("arrays/c_f4.npy"), dir / "a.pt");
  EXPECT_TRUE(at::equal(read_arrays(dir / "a.pt").tensors.at(0), base()));
  std::filesystem::copy_file(fixture("arrays/stored.npz"), dir / "b.dat");
  EXPECT_EQ(read_arrays(dir / "b.dat").tensors.size(), 2U);
  EXPECT_ERROR(read_arrays(fixture("images/rgb8.png")), ErrorKind::kFile, "no arrays");
  EXPECT_ERROR(read_arrays(dir / "none.npy"), ErrorKind::kFile, "none.npy");
}

}  // namespace
}  // namespace repquant
