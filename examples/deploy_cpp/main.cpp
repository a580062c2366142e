// Runs an artifact from C++: deploy model.w8a8.pt 1,1,28,28
#include <repquant/error.h>
#include <repquant/load.h>
#include <torch/script.h>

#include <cstdio>
#include <sstream>
#include <string>
#include <vector>

namespace {

std::vector<std::int64_t> parse_sizes(const std::string& text) {
  std::vector<std::int64_t> sizes;
  std::stringstream stream(text);
  for (std::string size; std::getline(stream, size, ',');) sizes.push_back(std::stoll(size));
  return sizes;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fprintf(stderr, "usage: deploy ARTIFACT SIZES\n");
    return 2;
  }
  try {
    repquant::LoadReport report;
    torch::jit::Module model = repquant::load(argv[1], {}, &report);
    std::size_t fused = 0;
    for (const auto& site : report.sites) fused += site.fused ? 1 : 0;
    std::printf("%zu of %zu submodules fused, %s\n", fused, report.sites.size(),
                report.cpu_level.c_str());
    const c10::InferenceMode guard;
    const at::Tensor output = model.forward({at::zeros(parse_sizes(argv[2]))}).toTensor();
    std::printf("output has %lld elements, largest %.4f\n", static_cast<long long>(output.numel()),
                output.max().item<double>());
  } catch (const repquant::Error& e) {
    std::fprintf(stderr, "%s\n", e.what());
    return 1;
  }
  return 0;
}
