// The bits on the label are the bits in the box: b-bit weights and activations of a written
// artifact have at most 2^b levels, counted on the stored codes and on what its submodules pass
// around; zero points are integers.
#include <ATen/ATen.h>
#include <torch/csrc/jit/api/function_impl.h>
#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/ir/ir.h>

#include <algorithm>
#include <map>
#include <set>

#include "format/codes.h"
#include "graph/archive.h"
#include "graph/walker.h"
#include "recipe/bit_width.h"
#include "recipe/json.h"
#include "repquant/artifact.h"
#include "repquant/quantize.h"
#include "support/fixtures.h"
#include "support/temp_dir.h"

namespace repquant {
namespace {

using testing::fixture_dir;
using testing::source_dir;
using torch::jit::Module;

struct Case {
  std::string model;  // "digits" or "planted"
  BitWidths bits;
};

void PrintTo(const Case& value, std::ostream* out) {
  *out << value.model << ' ' << to_string(value.bits);
}

std::string model_file(const std::string& model) {
  return (model == "digits" ? source_dir() / "examples/digits/digits_vit.pt"
                            : fixture_dir() / "planted.trace.pt")
      .string();
}

std::string data_file(const std::string& model, const std::string& part) {
  return (model == "digits" ? source_dir() / "examples/digits" / ("digits_" + part + ".npz")
                            : fixture_dir() / ("planted_" + part + ".npz"))
      .string();
}

std::int64_t levels(const at::Tensor& values) {
  return std::get<0>(at::_unique(values.flatten().to(at::kDouble))).numel();
}

/// The most levels in a group of `size` columns of any row.
std::int64_t levels_of_groups(const at::Tensor& values, std::int64_t size) {
  std::int64_t found = 0;
  for (std::int64_t first = 0; first < values.size(-1); first += size) {
    const at::Tensor group = std::get<0>(values.slice(-1, first, first + size).sort(-1));
    const at::Tensor steps = group.diff(1, -1).ne(0).sum(-1) + 1;
    found = std::max(found, steps.max().item<std::int64_t>());
  }
  return found;
}

std::int64_t most(int bits) { return std::int64_t{1} << bits; }

void expect_integers(const at::Tensor& values, const std::string& what) {
  EXPECT_TRUE(at::equal(values, values.round())) << what;
}

class LevelsTest : public ::testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    const auto& [model, bits] = GetParam();
    QuantizeOptions options;
    options.model = model_file(model);
    options.calib = DataPath{data_file(model, "calib")};
    options.output = (folder_ / "model.pt").string();
    options.recipe = recipe_for_bits(bits);
    options.recipe.calibration.samples = 32;
    quantize(options);
    for (const auto& row : read_artifact(options.output).sites) rows_[row.module] = row;
    root_ = load_archive(options.output, false);
    ASSERT_EQ(rows_.count(""), 0U) << "a site was left in floating point";
  }

  void check_stored_weights();
  void check_codes_between_submodules();
  void check_zero_points();

  /// Whether its inputs are values on grids of groups of columns.
  bool in_groups(const ArtifactSite& row) const {
    return !row.input_module.empty() && module(row.input_module).hasattr("group_size");
  }

  Module module(const std::string& name) const { return root_.attr(name).toModule(); }

  /// Runs the artifact on evaluation data and hands every call of a submodule to `visit`.
  template <class Visit>
  void run(const Visit& visit) {
    at::NoGradGuard no_grad;
    std::vector<c10::IValue> inputs{root_._ivalue()};
    const auto arrays =
        read_npz(data_file(GetParam().model, GetParam().model == "digits" ? "test" : "eval"));
    for (std::size_t i = 0; i < arrays.names.size(); ++i) {
      if (arrays.names[i] != "labels") inputs.emplace_back(arrays.tensors[i].narrow(0, 0, 32));
    }
    const auto graph = torch::jit::toGraphFunction(root_.get_method("forward").function()).graph();
    run_graph(*graph, Schedule(*graph), inputs, [&](const torch::jit::Node* node, Values& values) {
      if (node->kind() == c10::prim::GetAttr) {
        values[node->output()] =
            values.at(node->input(0)).toObjectRef().getAttr(node->s(c10::attr::name));
        return true;
      }
      if (node->kind() != c10::prim::CallMethod) return false;
      std::vector<c10::IValue> arguments;
      for (std::size_t i = 1; i < node->inputs().size(); ++i) {
        arguments.push_back(values.at(node->input(i)));
      }
      visit(node->input(0)->node()->s(c10::attr::name), arguments);
      Module called(values.at(node->input(0)).toObject());
      values[node->output()] = called.get_method(node->s(c10::attr::name))(arguments);
      return true;
    });
  }

  testing::TempDir folder_;
  std::map<std::string, ArtifactSite> rows_;  // by submodule
  Module root_;
};

void LevelsTest::check_stored_weights() {
  for (const auto& [name, row] : rows_) {
    if (row.site.weight_bits == 0) continue;
    Module linear = module(name);
    EXPECT_EQ(linear.attr("bits").toInt(), row.site.weight_bits) << name;
    const at::Tensor codes =
        unpack_levels(linear.attr("codes").toTensor(), row.site.weight_bits,
                      linear.attr("columns").toInt(), linear.attr("levels").toTensor());
    EXPECT_EQ(codes.scalar_type(), at::kChar) << name;
    EXPECT_EQ(codes.numel(), row.site.parameters) << name;
    EXPECT_LE(levels(codes), most(row.site.weight_bits)) << name;
    EXPECT_GT(levels(codes), 2) << name;
    EXPECT_TRUE(in_groups(row) || linear.attr("zero_point").isInt()) << name;
    if (row.site.weight_bits <= 4) {  // two codes in a byte
      EXPECT_EQ(linear.attr("codes").toTensor().numel(), (codes.size(1) + 1) / 2 * codes.size(0));
    }
  }
}

void LevelsTest::check_codes_between_submodules() {
  std::set<std::string> seen;
  run([&](const std::string& name, const std::vector<c10::IValue>& arguments) {
    const auto found = rows_.find(name);
    if (found == rows_.end()) return;  // makes codes, or adds side columns
    seen.insert(name);
    const auto& site = found->second.site;
    if (in_groups(found->second)) {
      const std::int64_t size = module(found->second.input_module).attr("group_size").toInt();
      const std::int64_t count = levels_of_groups(arguments[0].toTensor(), size);
      EXPECT_LE(count, most(site.activation_bits)) << name;
      EXPECT_GT(count, 2) << name;
      return;
    }
    const std::size_t operands = site.kind == "scores" ? 2 : 1;
    for (std::size_t i = 0; i < operands; ++i) {
      // q k^T and A V read int8 operands, a Linear uint8 codes.
      const auto& codes = arguments[site.kind == "attend" ? 1 : i].toTensor();
      EXPECT_EQ(codes.scalar_type(), site.weight_bits > 0 ? at::kByte : at::kChar) << name;
      EXPECT_LE(levels(codes), most(site.activation_bits)) << name;
      EXPECT_GT(levels(codes), 2) << name;
    }
    if (site.kind != "attend") return;
    Module attend = module(name);
    const at::Tensor weights =
        attend.get_method("weights")({arguments[0].toTensor().clone(), arguments[2]}).toTensor();
    EXPECT_LE(levels(weights), most(site.activation_bits)) << name;
    EXPECT_GT(levels(weights), 2) << name;
  });
  EXPECT_EQ(seen.size(), rows_.size());
}

void LevelsTest::check_zero_points() {
  for (const auto& [name, row] : rows_) {
    if (row.site.kind == "scores") {
      expect_integers(module(name).attr("left_zero").toTensor(), name);
      expect_integers(module(name).attr("right_zero").toTensor(), name);
    } else if (row.site.kind == "attend") {
      expect_integers(module(name).attr("value_zero").toTensor(), name);
    }
    if (row.side_module.empty()) continue;
    expect_integers(module(row.side_module).attr("zero_point").toTensor(), row.side_module);
    EXPECT_LE(levels(module(row.side_module).attr("codes").toTensor()), most(8));
  }
}

TEST_P(LevelsTest, TheBoxHoldsWhatTheLabelSays) {
  check_stored_weights();
  check_codes_between_submodules();
  check_zero_points();
}

INSTANTIATE_TEST_SUITE_P(Models, LevelsTest,
                         ::testing::Values(Case{"digits", {8, 8}}, Case{"digits", {4, 4}},
                                           Case{"planted", {6, 6}}, Case{"planted", {4, 4}},
                                           Case{"planted", {3, 3}}),
                         [](const auto& test) {
                           return test.param.model + "_" + to_string(test.param.bits);
                         });

}  // namespace
}  // namespace repquant
