#!/usr/bin/env bash
# Checks the layout of the sources with clang-format 14 and the code with clang-tidy 14.
#
#   scripts/lint.sh                 everything
#   scripts/lint.sh --format        the layout only
#   scripts/lint.sh FILE.cpp...     clang-tidy for these files only
#   scripts/lint.sh --fix           rewrites the layout in place
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

find_tool() {
  command -v "$1-14" || command -v "$1" || {
    echo "lint: $1 is missing: apt-get install $1-14" >&2
    exit 1
  }
}

mapfile -t sources < <(find src include tests cmake -name '*.h' -o -name '*.cpp' | sort)
clang_format=$(find_tool clang-format)

case "${1:-}" in
  --fix)
    "$clang_format" -i "${sources[@]}"
    exit 0
    ;;
  --format)
    exec "$clang_format" --dry-run --Werror "${sources[@]}"
    ;;
esac

clang_tidy=$(find_tool clang-tidy)
if (($# > 0)); then
  files=("$@")
else
  "$clang_format" --dry-run --Werror "${sources[@]}"
  mapfile -t files < <(find src -name '*.cpp' | sort)
fi

mkdir -p build
if ! cmake --preset tidy >build/configure.log 2>&1; then
  cat build/configure.log >&2
  exit 1
fi
# Generated sources must exist before they can be checked.
# LibTorch's headers need omp.h, which comes with gcc and not with clang-tidy.
printf '%s\0' "${files[@]}" |
  xargs -0 -n 1 -P "$(nproc)" "$clang_tidy" --quiet -p build/tidy \
    --extra-arg="-idirafter$(gcc -print-file-name=include)" --warnings-as-errors='*'
echo "lint: ${#files[@]} files are clean"
