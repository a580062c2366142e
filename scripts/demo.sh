#!/usr/bin/env bash
# Sets up the machine, builds the program, quantizes the small Vision Transformer for handwritten
# digits (examples/digits) to w8a8 and w4a4, and prints one table: accuracy, agreement, size and
# latency of FP32 and of both artifacts on the 600 test images.
#
#   scripts/demo.sh             what is up to date already is not made again
#   REPQUANT_DEMO_FRESH=1 ...   quantizes again
#
# What the steps print goes to build/demo/demo.log, and to stderr if one fails.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly model=examples/digits/digits_vit.pt
readonly calib=examples/digits/digits_calib.npz
readonly test=examples/digits/digits_test.npz
readonly program=build/release/repquant
readonly out=build/demo
readonly log=$out/demo.log

say() { echo "demo: $*" >&2; }

# Runs a step; its errors and progress go to the log, which is shown if the step fails.
step() {
  local from code=0
  from=$(wc -c <"$log")
  "$@" 2>>"$log" || code=$?
  if ((code != 0)); then
    tail -c +$((from + 1)) "$log" >&2
    say "failed: $* (exit code $code, log in $log)"
    exit "$code"
  fi
}

mkdir -p "$out"
: >"$log"

say "setting up and building (minutes the first time), log in $log"
step ./scripts/build.sh >>"$log"

artifacts=()
for bits in w8a8 w4a4; do
  artifact=$out/digits_vit.$bits.pt
  artifacts+=("$artifact")
  if [[ -z "${REPQUANT_DEMO_FRESH:-}" && "$artifact" -nt "$program" && "$artifact" -nt "$model" &&
    "$artifact" -nt "$calib" ]]; then
    say "$artifact is up to date"
    continue
  fi
  say "quantizing to $bits"
  step "$program" quantize "$model" --bits "$bits" --calib "$calib" -o "$artifact" --force >>"$log"
done

# One thread: the table's latency is that of one core, whatever else the machine has.
step "$program" evaluate "${artifacts[@]}" --reference "$model" --data "$test" --threads 1
say "this model is too small to gain time from integers; it shows accuracy and size (README, Limits)"
