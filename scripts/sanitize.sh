#!/usr/bin/env bash
# Builds the unit tests with Clang, AddressSanitizer and UndefinedBehaviorSanitizer and runs the fast
# ones; further arguments go to ctest instead of that choice, for example
# `scripts/sanitize.sh -L graph`.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
REPQUANT_PRESET=asan ./scripts/build.sh unit_tests

choice=("$@")
if ((${#choice[@]} == 0)); then choice=(-L '^fast$'); fi
# LibTorch keeps what it allocated when a process ends.
export ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1
ctest --test-dir build/asan --output-on-failure --no-label-summary \
  --parallel "$(nproc)" --no-tests=error "${choice[@]}"
