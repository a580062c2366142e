// repquant doctor: what this build and machine can do.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/Version.h>
#include <ATen/cpu/Utils.h>
#include <torch/version.h>
#include <unistd.h>

#include <ostream>

#include "base/json_text.h"
#include "base/list_text.h"
#include "base/text_table.h"
#include "cli/command.h"
#include "cli/render.h"
#include "pipeline/form_reports.h"
#include "repquant/error.h"
#include "repquant/load.h"
#include "repquant/version.h"

namespace repquant::cli {
namespace {

struct Finding {
  std::string name;
  std::string value;
  std::string note{};
};

std::string instruction_sets() {
  std::string text;
  const auto add = [&text](bool supported, const char* name) {
    if (supported) text += (text.empty() ? "" : " ") + std::string(name);
  };
#if defined(__x86_64__)
  add(__builtin_cpu_supports("avx2"), "avx2");
  add(__builtin_cpu_supports("avx512f"), "avx512f");
  add(__builtin_cpu_supports("avx512bw"), "avx512bw");
  add(__builtin_cpu_supports("avx512vnni"), "avx512vnni");
  add(__builtin_cpu_supports("avx512bf16"), "avx512bf16");
  add(at::cpu::init_amx(), "amx");
#else
  add(true, "not known on this architecture");
#endif
  return text.empty() ? "none of avx2, avx512" : text;
}

Finding fused_kernels() {
  const CpuLevelReport report = cpu_level_report();
  const std::string available = list_text(report.available);
  if (report.requested) {
    return {"fused kernels", report.level,
            "REPQUANT_CPU_LEVEL asks for it; this processor has " + available};
  }
  const bool has_library = report.available.back() == "onednn";
  return {
      "fused kernels", report.level,
      "the fastest of this processor's: " + available +
          (!has_library               ? ""
           : report.level == "onednn" ? "; with AMX, oneDNN's products are"
                                      : "; oneDNN's products pay with AMX, which is not there")};
}

/// Products, norms and softmax of every instruction set that this processor has.
Finding finding_of(const KernelTest& test) {
  const std::string name = "kernels " + test.level;
  if (!test.available) return {name, "missing", "not on this processor"};
  if (test.passed()) return {name, "right", "self-test against plain loops"};
  return {name, "WRONG", test.wrong};
}

std::vector<Finding> examine(int threads, const std::vector<KernelTest>& kernels) {
  std::vector<Finding> findings;
  findings.push_back({"repquant", kVersion});
  findings.push_back({"LibTorch", TORCH_VERSION});
  findings.push_back({"C++ ABI", _GLIBCXX_USE_CXX11_ABI == 1 ? "C++11" : "before C++11"});
  findings.push_back({"instruction sets", instruction_sets()});
  findings.push_back({"LibTorch kernels", at::get_cpu_capability()});
  findings.push_back(
      {"oneDNN", at::hasMKLDNN() ? "yes" : "no",
       at::hasMKLDNN() ? "" : "integer operators are missing: artifacts cannot run"});
  const bool exact = products_are_exact();
  findings.push_back({"u8 x s8 products", exact ? "exact" : "saturate",
                      exact ? "" : "artifacts take their exact, slower form (no VNNI)"});
  findings.push_back(fused_kernels());
  for (const KernelTest& test : kernels) findings.push_back(finding_of(test));
  findings.push_back({"threads", std::to_string(threads)});
  findings.push_back({"cores", std::to_string(::sysconf(_SC_NPROCESSORS_ONLN))});
  findings.push_back({"GPU", at::hasCUDA() ? "yes" : "none", "this version computes on the CPU"});
  return findings;
}

/// Throws Error kNumerical: results of this machine cannot be trusted.
void check_kernels(const std::vector<KernelTest>& kernels) {
  for (const KernelTest& test : kernels) {
    if (test.passed()) continue;
    throw Error(ErrorKind::kNumerical,
                {.what = "fused operators compute something wrong on this machine",
                 .where = test.level,
                 .got = test.wrong,
                 .hint = "set REPQUANT_CPU_LEVEL to a level that is right, or use the portable "
                         "form; please report the processor"});
  }
}

void run_doctor(const Context& context) {
  const std::vector<KernelTest> kernels = test_kernels();
  const std::vector<Finding> findings = examine(context.threads, kernels);
  if (context.json) {
    Json json = result_object("doctor");
    for (const Finding& finding : findings) {
      json["findings"].push_back(
          {{"name", finding.name}, {"value", finding.value}, {"note", finding.note}});
    }
    write_json(*context.out, json);
  } else {
    Table table({{"what"}, {"value"}, {"note"}}, context.layout);
    for (const Finding& finding : findings) {
      table.add_row({finding.name, finding.value, finding.note});
    }
    *context.out << table.to_string();
  }
  check_kernels(kernels);
}

}  // namespace

Command add_doctor(CLI::App& parent) {
  Command command;
  command.app = parent.add_subcommand("doctor", "Show what this build and machine can do");
  command.example = "repquant doctor";
  command.common = add_common_options(*command.app);
  command.run = run_doctor;
  return command;
}

}  // namespace repquant::cli
