#!/usr/bin/env bash
# The example of a nightly job: quantizes and gates every row of a plan, and leaves a summary as
# Markdown and JUnit XML. Exit code 1 when a gate was missed. See docs/nightly.md.
#
#   scripts/ci_example.sh [PLAN.json [OUTPUT_FOLDER]]
#
# REPQUANT names the program (default: the release build, else the one on the PATH).
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

program=${REPQUANT:-$root/build/release/repquant}
if [[ ! -x $program ]]; then
  program=$(command -v repquant) || {
    echo "ci_example: no repquant program: build it (scripts/build.sh) or set REPQUANT" >&2
    exit 2
  }
fi

plan=${1:-$root/examples/ci/plan.json}
output=${2:-$root/build/ci-example}
mkdir -p "$output"
# Run again, it takes over the rows that are up to date.
"$program" run "$plan" --output "$output" --markdown "$output/summary.md" \
  --junit "$output/junit.xml" --log-file "$output/log.txt"
