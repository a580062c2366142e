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

# begin TITLE: says which step of how many comes now.
readonly steps=5
number=0
begin() { say "step $((++number)) of $steps: $*"; }

fail() {
  local code=$1 from=$2
  shift 2
  tail -c +$((from + 1)) "$log" >&2
  say "failed: $* (exit code $code, log in $log)"
  exit "$code"
}

# Runs a step; its errors and progress go to the log, which is shown if the step fails.
step() {
  local from code=0
  from=$(wc -c <"$log")
  "$@" 2>>"$log" || code=$?
  if ((code != 0)); then fail "$code" "$from" "$@"; fi
}

# Copies what ninja says to the log, and tells how far it is: on a terminal in one line that changes,
# elsewhere in a line for each tenth.
follow_build() {
  local line done total tenth=0
  while IFS= read -r line; do
    echo "$line" >>"$log"
    [[ $line =~ ^\[([0-9]+)/([0-9]+)\] ]] || continue
    done=${BASH_REMATCH[1]} total=${BASH_REMATCH[2]}
    if ((total < 10)); then continue; fi
    if [[ -t 2 ]]; then
      printf '\rdemo:   %d of %d' "$done" "$total" >&2
      if ((done == total)); then echo >&2; fi
    elif ((done * 10 / total > tenth)); then
      tenth=$((done * 10 / total))
      say "  $done of $total"
    fi
  done
}

mkdir -p "$out"
: >"$log"

if [[ -x $program ]]; then
  say "what has not changed is not built again; log in $log"
else
  say "the first time takes 5 to 18 minutes on two cores, LibTorch's download (0.2 GB) apart,"
  say "and 3 GB of disk; later it is seconds; log in $log"
fi

begin "setting up"
./scripts/setup.sh

begin "building"
from=$(wc -c <"$log")
code=0
./scripts/build.sh 2>&1 | follow_build || code=$?
if ((code != 0)); then fail "$code" "$from" ./scripts/build.sh; fi

artifacts=()
for bits in w8a8 w4a4; do
  artifact=$out/digits_vit.$bits.pt
  artifacts+=("$artifact")
  begin "quantizing to $bits"
  if [[ -z "${REPQUANT_DEMO_FRESH:-}" && "$artifact" -nt "$program" && "$artifact" -nt "$model" &&
    "$artifact" -nt "$calib" ]]; then
    say "  $artifact is up to date"
    continue
  fi
  step "$program" quantize "$model" --bits "$bits" --calib "$calib" -o "$artifact" --force >>"$log"
done

begin "evaluating"
# One thread: the table's latency is that of one core, whatever else the machine has.
step "$program" evaluate "${artifacts[@]}" --reference "$model" --data "$test" --threads 1 \
  --form portable,fused
say "this model is too small to gain time from integers; it shows accuracy and size"
