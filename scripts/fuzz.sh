#!/usr/bin/env bash
# Builds the libFuzzer targets of tests/fuzz with Clang, AddressSanitizer and
# UndefinedBehaviorSanitizer, runs them one after the other and prints a table. What a target finds
# stays in build/fuzz/findings/TARGET; then the exit code is 1. Inputs that reach new code are kept in
# build/fuzz/corpus/TARGET for the next time.
#
#   scripts/fuzz.sh                      every target for a minute
#   scripts/fuzz.sh SECONDS [TARGET...]  these targets, each for so long
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

seconds=${1:-60}
if [[ ! $seconds =~ ^[1-9][0-9]*$ ]]; then
  echo "fuzz: usage: scripts/fuzz.sh [SECONDS [TARGET...]]" >&2
  exit 2
fi
targets=("${@:2}")

./scripts/setup.sh clang libclang-rt-14-dev
wanted=("${targets[@]/#/fuzz_}")
if ((${#targets[@]} == 0)); then wanted=(fuzzers); fi
REPQUANT_PRESET=fuzz ./scripts/build.sh "${wanted[@]}"
if ((${#targets[@]} == 0)); then mapfile -t targets <build/fuzz/fuzzers.txt; fi

# LibTorch keeps what it allocated when a process ends.
export ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1
found=0
rows=()
for target in "${targets[@]}"; do
  corpus=build/fuzz/corpus/$target
  findings=build/fuzz/findings/$target
  log=build/fuzz/$target.log
  mkdir -p "$corpus" "$findings"
  echo "fuzz: $target for $seconds s" >&2
  outcome=nothing
  if ! "build/fuzz/fuzz_$target" -max_total_time="$seconds" -timeout=20 -rss_limit_mb=2048 \
    -print_final_stats=1 -artifact_prefix="$findings/" "$corpus" "tests/fuzz/corpus/$target" \
    >"$log" 2>&1; then
    outcome="see $log and $findings"
    found=1
  fi
  runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
  rows+=("$(printf '%-12s %12s   %s' "$target" "${runs:-?}" "$outcome")")
done
printf '%-12s %12s   %s\n' target executions found
printf '%s\n' "${rows[@]}"
exit "$found"
