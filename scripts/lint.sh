#!/usr/bin/env bash
# Checks the layout of the sources with clang-format 14, the rooms' includes, and the code with
# clang-tidy 14. Installs the tools that it needs where they are missing.
#
#   scripts/lint.sh                   everything
#   scripts/lint.sh --format          the layout and the includes only
#   scripts/lint.sh --since REVISION  clang-tidy only for sources changed since then; of more than
#                                     REPQUANT_LINT_FILES (default: all) the most changed ones
#   scripts/lint.sh FILE.cpp...       clang-tidy for these files only
#   scripts/lint.sh --fix             rewrites the layout in place
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

need() {
  if ! command -v "$1" >/dev/null; then ./scripts/setup.sh "$1"; fi
}

# Outside of a repository, as of an archive, everything that lies here.
mapfile -t sources < <(git ls-files '*.h' '*.cpp' 2>/dev/null ||
  find examples include src tests -name '*.h' -o -name '*.cpp')
if ((${#sources[@]} == 0)); then
  echo "lint: no sources here" >&2
  exit 1
fi

check_layout() {
  need clang-format-14
  clang-format-14 --dry-run --Werror "${sources[@]}"
  python3 scripts/check_includes.py
}

# Sources of src/ that differ from revision $1, those with most changed lines first.
changed_since() {
  git diff --numstat --diff-filter=d --no-renames "$1" -- 'src/*.cpp' | sort -k1,1nr | cut -f3
}

files=()
case "${1:-}" in
  --fix)
    need clang-format-14
    clang-format-14 -i "${sources[@]}"
    exit 0
    ;;
  --format)
    check_layout
    exit 0
    ;;
  --since)
    check_layout
    mapfile -t files < <(changed_since "$2")
    most=${REPQUANT_LINT_FILES:-${#files[@]}}
    if ((${#files[@]} > most)); then
      echo "lint: clang-tidy checks $most of ${#files[@]} changed files"
      files=("${files[@]:0:most}")
    fi
    ;;
  "")
    check_layout
    mapfile -t files < <(git ls-files 'src/*.cpp')
    ;;
  *) files=("$@") ;;
esac

if ((${#files[@]} > 0)); then
  need clang-tidy-14
  mkdir -p build
  if ! cmake --preset tidy >build/configure.log 2>&1; then
    cat build/configure.log >&2
    exit 1
  fi
  # LibTorch's headers need omp.h, which comes with gcc and not with clang-tidy.
  printf '%s\0' "${files[@]}" |
    xargs -0 -n 1 -P "$(nproc)" clang-tidy-14 --quiet -p build/tidy \
      --extra-arg="-idirafter$(gcc -print-file-name=include)" --warnings-as-errors='*'
fi
echo "lint: layout and includes are sound, ${#files[@]} files passed clang-tidy"
