// Time of each fused operator beside the stock operators that it replaces, and of the processor's
// peaks. Every benchmark compares its result with a plain reference first and fails if it is wrong.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <benchmark/benchmark.h>

#include <cstring>
#include <limits>

#include "ops/kernels/kernels.h"
#include "ops/operators.h"
#include "peaks.h"

namespace repquant {
namespace {

at::Tensor codes(std::int64_t low, std::int64_t high, at::IntArrayRef sizes, at::ScalarType type) {
  return at::randint(low, high + 1, sizes, at::kInt).to(type);
}

at::Tensor padded(const at::Tensor& vector) {
  return at::constant_pad_nd(vector, {0, (64 - vector.size(0) % 64) % 64}).contiguous();
}

/// Nibbles as the artifact stores them.
at::Tensor stored(const at::Tensor& weight, std::int64_t bits) {
  if (bits > 4) return weight;
  const at::Tensor shifted = weight.to(at::kInt) + 8;
  const at::Tensor low = shifted.slice(1, 0, std::nullopt, 2);
  return (low + shifted.slice(1, 1, std::nullopt, 2) * 16).to(at::kByte).contiguous();
}

struct Problem {
  std::int64_t rows, channels, columns, bits;
  at::Tensor x, weight, packed, compensation, scale, bias;

  explicit Problem(const benchmark::State& state)
      : rows(state.range(0)),
        channels(state.range(1)),
        columns(state.range(2)),
        bits(state.range(3)) {
    at::manual_seed(1);
    const std::int64_t limit = (std::int64_t{1} << (bits - 1)) - 1;
    x = codes(0, 255, {rows, columns}, at::kByte);
    weight = codes(-limit, limit, {channels, columns}, at::kChar);
    at::Tensor sums;
    std::tie(packed, sums) = ops::pack_weight_cpu(stored(weight, bits), bits, columns);
    compensation = sums * 17;
    scale = at::rand({channels}) * 1e-4;
    bias = at::randn({channels});
  }

  at::Tensor exact() const {
    return at::matmul(x.to(at::kDouble) - 17, weight.to(at::kDouble).t()) * scale.to(at::kDouble) +
           bias.to(at::kDouble);
  }
};

bool close(const at::Tensor& got, const at::Tensor& expected) {
  return at::allclose(got.to(at::kDouble), expected.to(at::kDouble), 1e-5, 1e-5);
}

void count(benchmark::State& state, const Problem& p, std::int64_t weight_bytes) {
  const double macs = static_cast<double>(p.rows * p.channels * p.columns);
  const double calls = static_cast<double>(state.iterations());
  state.counters["macs"] = benchmark::Counter(macs * calls, benchmark::Counter::kIsRate);
  state.counters["weight_bytes"] =
      benchmark::Counter(static_cast<double>(weight_bytes) * calls, benchmark::Counter::kIsRate);
}

void fused_linear(benchmark::State& state) {
  const Problem p(state);
  const at::Tensor scale = padded(p.scale), bias = padded(p.bias);
  const auto run = [&] {
    return ops::linear_cpu(p.x, p.packed, p.compensation, scale, bias, {}, {}, {}, p.channels,
                           p.columns, p.bits, 0, 0, 0, 255, false);
  };
  if (!close(run(), p.exact())) return state.SkipWithError("wrong result");
  for (auto _ : state) benchmark::DoNotOptimize(run());
  count(state, p, p.packed.numel());
}

void fused_linear_gelu_codes(benchmark::State& state) {
  const Problem p(state);
  const at::Tensor scale = padded(p.scale), bias = padded(p.bias);
  const at::Tensor m = padded(at::full({p.channels}, 40.0F));
  const at::Tensor a = padded(at::full({p.channels}, 7.0F));
  const auto run = [&] {
    return ops::linear_cpu(p.x, p.packed, p.compensation, scale, bias, m, a, {}, p.channels,
                           p.columns, p.bits, 2, 2, 0, 255, false);
  };
  const at::Tensor expected = at::round(at::gelu(p.exact()) * 40 + 7).clamp(0, 255);
  if ((run().to(at::kDouble) - expected).abs().max().item<double>() > 1) {
    return state.SkipWithError("wrong result");
  }
  for (auto _ : state) benchmark::DoNotOptimize(run());
  count(state, p, p.packed.numel());
}

at::Tensor call_stock(const char* name, torch::jit::Stack stack) {
  c10::Dispatcher::singleton().findSchemaOrThrow(name, "").callBoxed(&stack);
  return stack.at(0).toTensor();
}

void stock_linear(benchmark::State& state) {
  const Problem p(state);
  const at::Tensor packed = call_stock("onednn::qlinear_prepack", {p.weight, c10::IValue()});
  const at::Tensor zeros = at::zeros({p.channels}, at::kInt);
  c10::impl::GenericList none(c10::OptionalType::create(c10::NumberType::get()));
  const auto run = [&] {
    torch::jit::Stack stack{p.x,
                            1.0,
                            std::int64_t{17},
                            packed,
                            p.scale,
                            zeros,
                            p.bias,
                            1.0,
                            std::int64_t{0},
                            static_cast<std::int64_t>(at::kFloat),
                            "none",
                            none,
                            ""};
    c10::Dispatcher::singleton()
        .findSchemaOrThrow("onednn::qlinear_pointwise", "")
        .callBoxed(&stack);
    return stack.at(0).toTensor();
  };
  if (!close(run(), p.exact())) return state.SkipWithError("wrong result");
  for (auto _ : state) benchmark::DoNotOptimize(run());
  count(state, p, p.weight.numel());
}

void fused_norm(benchmark::State& state) {
  const std::int64_t rows = state.range(0), width = state.range(1);
  const at::Tensor x = at::randn({rows, width});
  const at::Tensor w = at::rand({width}) * 30, b = at::rand({width}) * 50 + 80;
  const auto run = [&] { return ops::norm_quantize_cpu(x, w, b, 1e-6, 255); };
  const at::Tensor expected = at::floor(at::layer_norm(x.to(at::kDouble), {width},
                                                       w.to(at::kDouble), b.to(at::kDouble), 1e-6) +
                                        0.5)
                                  .clamp(0, 255);
  if ((run().to(at::kDouble) - expected).abs().max().item<double>() > 1) {
    return state.SkipWithError("wrong result");
  }
  for (auto _ : state) benchmark::DoNotOptimize(run());
}

void fused_attention(benchmark::State& state) {
  const std::int64_t heads = state.range(0), tokens = state.range(1), depth = state.range(2);
  const std::int64_t form = state.range(3);  // 0 log-sqrt2 of 4 bits, 1 table, 2 uniform
  at::manual_seed(1);
  const at::Tensor qkv = codes(-128, 127, {1, tokens, 3, heads, depth}, at::kChar);
  const auto part = [&](std::int64_t i) { return qkv.select(2, i).permute({0, 2, 1, 3}); };
  const at::Tensor zero = at::zeros({1}, at::kInt), one = at::ones({1});
  const at::Tensor factor = at::full({1}, 1e-4F);
  const std::int64_t max_code = form == 0 ? 15 : 255;
  const double steps = form == 0 ? 2 : 8;
  const auto run = [&] {
    return ops::attention_cpu(part(0), part(1), part(2), {}, zero, zero, one, factor, 1.0, one, one,
                              form, steps, max_code, true, 0, true);
  };
  const at::Tensor scores =
      at::matmul(part(0).to(at::kDouble), part(1).to(at::kDouble).transpose(-1, -2));
  const at::Tensor units =
      ((scores - scores.amax(-1, true)).to(at::kFloat) * 1e-4F).to(at::kDouble);
  at::Tensor w = at::exp2(units) * 255;
  if (form != 2) {
    const at::Tensor c = at::round(-units).clamp(0, max_code);
    w = at::exp2(-c / steps) * 255;
    if (form == 1) w = at::round(w);
    w = w.masked_fill(c.eq(max_code), 0.0);
  } else {
    w = at::round(w);
  }
  const at::Tensor expected = at::matmul(w, part(2).to(at::kDouble)) / w.sum(-1, true);
  if (!at::allclose(run().to(at::kDouble), expected, 1e-4, 1e-3)) {
    return state.SkipWithError("wrong result");
  }
  for (auto _ : state) benchmark::DoNotOptimize(run());
  const double macs = 2.0 * static_cast<double>(heads * tokens * tokens * depth);
  state.counters["macs"] = benchmark::Counter(macs * static_cast<double>(state.iterations()),
                                              benchmark::Counter::kIsRate);
}

void peak_vpdpbusd(benchmark::State& state) {
  std::int64_t macs = 0;
  for (auto _ : state) macs += bench::run_byte_products(10000);
  if (macs == 0) return state.SkipWithError("no AVX-512 VNNI");
  state.counters["macs"] =
      benchmark::Counter(static_cast<double>(macs), benchmark::Counter::kIsRate);
}

void peak_read(benchmark::State& state) {
  const std::int64_t bytes = state.range(0);
  const at::Tensor data = codes(0, 255, {bytes}, at::kByte);
  for (auto _ : state) {
    benchmark::DoNotOptimize(bench::read_memory(data.const_data_ptr<std::uint8_t>(), bytes));
  }
  state.counters["weight_bytes"] =
      benchmark::Counter(static_cast<double>(bytes) * static_cast<double>(state.iterations()),
                         benchmark::Counter::kIsRate);
}

void few_rows(benchmark::internal::Benchmark* b) {
  b->ArgNames({"rows", "channels", "columns", "bits"});
  for (const std::int64_t bits : {4, 8}) {
    b->Args({1, 2048, 2048, bits})->Args({1, 4096, 11008, bits})->Args({8, 4096, 11008, bits});
  }
}

void many_rows(benchmark::internal::Benchmark* b) {
  b->ArgNames({"rows", "channels", "columns", "bits"});
  for (const std::int64_t bits : {4, 8}) {
    b->Args({197, 1152, 384, bits})->Args({197, 384, 384, bits});
    b->Args({197, 1536, 384, bits})->Args({197, 384, 1536, bits});
  }
}

BENCHMARK(peak_vpdpbusd);
// As many bytes as a weight of 4096 x 11008 has at 4 and at 8 bits.
BENCHMARK(peak_read)->Arg(22544384)->Arg(45088768);
BENCHMARK(fused_linear)->Apply(few_rows)->Apply(many_rows);
BENCHMARK(stock_linear)->Apply(few_rows)->Apply(many_rows);
BENCHMARK(fused_linear_gelu_codes)->Apply(many_rows);
BENCHMARK(fused_norm)->ArgNames({"rows", "width"})->Args({197, 192})->Args({197, 384});
BENCHMARK(fused_attention)
    ->ArgNames({"heads", "tokens", "depth", "form"})
    ->Args({6, 197, 64, 0})
    ->Args({6, 197, 64, 1})
    ->Args({6, 197, 64, 2});

}  // namespace
}  // namespace repquant

int main(int argc, char** argv) {
  at::set_num_threads(1);
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
