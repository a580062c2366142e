// The scan of TorchScript before it is compiled.
#include "format/check_code.h"

#include "support/errors.h"

namespace repquant {
namespace {

void scan(const std::string& line, bool trusted = false) {
  check_code("def f(x: Tensor) -> Tensor:\n  " + line + "\n", "m.py", trusted);
}

TEST(CheckCode, ExportedCodePasses) {
  for (const char* line : {
           "return torch.softmax(torch.matmul(x, x), -1)",
           "return ops.prim.dtype(x)",
           "y = (getattr(self.layers, \"0\")).forward(getattr(getattr(self, \"1\"), \"2\"), )",
           "return onednn.qlinear_prepack(x, None)",
           "ops.prim.RaiseException(\"torch.save(\\\"x\\\")\", \"builtins.RuntimeError\")",
           "return x  # torch.save(1)",
           "z = torch.zeros([8], device=torch.device(\"cuda:0\"))",
       }) {
    EXPECT_NO_THROW(scan(line)) << line;
  }
}

TEST(CheckCode, WhatReachesFilesIsRefusedUnlessTrusted) {
  for (const char* line : {
           "torch.save(x, \"f\")",
           "x.save(\"f\")",
           "t = torch",
           "ops.c10d.barrier(x)",
           "x = torch._reshape_alias(x, [9], [9])",
           "y = __torch__.torch.classes.a.B.__new__(__torch__.torch.classes.a.B)",
           "getattr(x, \"save\")(\"f\")",
           "getattr(x, \"\"\"save\"\"\")(\"f\")",
           "getattr(x, \"sa\" \"ve\")(\"f\")",
           "getattr(getattr(x, \"a\"), 'save')(\"f\")",
           "getattr(x, \"sa\\166e\")(\"f\")",
           "g = getattr",
       }) {
    EXPECT_ERROR(scan(line), ErrorKind::kUnsupported, "does not need");
    EXPECT_NO_THROW(scan(line, true)) << line;
  }
}

TEST(CheckCode, DepthIsBoundedWhoeverIsTrusted) {
  const std::string open(300, '('), close(300, ')');
  EXPECT_ERROR(scan("return " + open + "x" + close, true), ErrorKind::kFile, "nested too deeply");
  EXPECT_ERROR(scan("# type: " + open + "int" + close, true), ErrorKind::kFile,
               "nested too deeply");
  EXPECT_NO_THROW(scan("# no type: " + open));
}

}  // namespace
}  // namespace repquant
