// Work of an operator, split over LibTorch's threads.
#pragma once

#include <c10/util/FunctionRef.h>

#include <cstdint>

namespace repquant::ops {

/// Multiply-accumulates of a product below which a second thread costs more than it saves.
inline constexpr std::int64_t kThreadWork = 1 << 18;

/// Calls body(begin, end) for parts of [0, count), each of at least `grain` items but perhaps the
/// last, side by side where that is more than one. Throws what `body` throws.
void split_work(std::int64_t count, std::int64_t grain,
                c10::function_ref<void(std::int64_t, std::int64_t)> body);

}  // namespace repquant::ops
