#!/usr/bin/env bash
# Builds the libFuzzer targets of tests/fuzz with Clang, AddressSanitizer and
# UndefinedBehaviorSanitizer, runs as many at a time as there are processors and prints a table. What
# a target finds stays in build/asan/findings/TARGET; then the exit code is 1. Inputs that reach new
# code are kept in build/asan/corpus/TARGET for the next time.
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

wanted=("${targets[@]/#/fuzz_}")
if ((${#targets[@]} == 0)); then wanted=(fuzzers); fi
REPQUANT_PRESET=asan ./scripts/build.sh "${wanted[@]}"
if ((${#targets[@]} == 0)); then mapfile -t targets <build/asan/fuzzers.txt; fi

run() {  # TARGET SECONDS
  local corpus=build/asan/corpus/$1 findings=build/asan/findings/$1
  mkdir -p "$corpus" "$findings"
  echo "fuzz: $1 for $2 s" >&2
  "build/asan/fuzz_$1" -max_total_time="$2" -timeout=20 -rss_limit_mb=2048 -max_len=262144 \
    -print_final_stats=1 -artifact_prefix="$findings/" "$corpus" "tests/fuzz/corpus/$1" \
    >"build/asan/fuzz_$1.log" 2>&1 || echo "fuzz: $1 ended with exit code $?" >>"build/asan/fuzz_$1.log"
}
export -f run
# LibTorch keeps what it allocated when a process ends.
export ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1
printf '%s\n' "${targets[@]}" | xargs -P "$(nproc)" -I '{}' bash -c 'run "{}" "$0"' "$seconds"

found=0
printf '%-12s %12s   %s\n' target executions found
for target in "${targets[@]}"; do
  log=build/asan/fuzz_$target.log
  outcome=nothing
  if grep -q '^fuzz: ' "$log"; then
    outcome="see $log and build/asan/findings/$target"
    found=1
  fi
  runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
  printf '%-12s %12s   %s\n' "$target" "${runs:-?}" "$outcome"
done
exit "$found"
