// The precompiled header of every room that sees LibTorch. Source files still include what they
// use: the build must also work with -DREPQUANT_PCH=OFF.
#pragma once

#include <ATen/ATen.h>
#include <torch/script.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <numeric>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <variant>
#include <vector>
