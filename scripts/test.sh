#!/usr/bin/env bash
# Sets up the machine, builds everything and runs all tests. Arguments go to ctest, for example
# `scripts/test.sh -L base` or `scripts/test.sh -R Recipe`.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
./scripts/build.sh all
exec ctest --test-dir build/release --output-on-failure --no-label-summary \
  --parallel "$(nproc)" --no-tests=error "$@"
