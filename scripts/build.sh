#!/usr/bin/env bash
# Sets up the machine and makes a Release build; the program is then build/release/repquant.
#
#   scripts/build.sh            the program
#   scripts/build.sh TARGET...  these targets ("all" includes the tests)
#   REPQUANT_PRESET=asan ...    another preset of CMakePresets.json
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

preset=${REPQUANT_PRESET:-release}
packages=()
if [[ $preset == asan ]]; then packages=(clang libclang-rt-14-dev); fi
./scripts/setup.sh "${packages[@]}"

# A compiler takes up to 1.4 GB where it sees LibTorch: no more jobs than fit into memory.
jobs=$(nproc)
if [[ -r /proc/meminfo ]]; then
  fitting=$(awk '/^MemAvailable:/ {print int($2 / 1400000)}' /proc/meminfo)
  if ((fitting < 1)); then fitting=1; fi
  if ((fitting < jobs)); then jobs=$fitting; fi
fi

targets=("$@")
if ((${#targets[@]} == 0)); then targets=(repquant); fi

mkdir -p build
if ! cmake --preset "$preset" >build/configure.log 2>&1; then
  cat build/configure.log >&2
  exit 1
fi
cmake --build --preset "$preset" --parallel "$jobs" --target "${targets[@]}"
