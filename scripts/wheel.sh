#!/usr/bin/env bash
# Builds a Python wheel of the program, the libraries and the package:
#
#   scripts/wheel.sh [FOLDER]      default: build
#
# It brings along the libraries of Debian packages that it needs, and works with the torch package
# that it names, on any Linux with this machine's glibc or a later one.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

folder=$(realpath -m "${1:-build}")
./scripts/build.sh repquant repquant_loader repquant_calls
python=.venv/bin/python
if [[ ! -x $python ]]; then
  echo "wheel: needs .venv, which scripts/setup.sh makes without a LibTorch in CMAKE_PREFIX_PATH" >&2
  exit 1
fi
$python -m pip install --quiet --disable-pip-version-check -r scripts/requirements-wheel.txt

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cmake --install build/release --component wheel --prefix "$work/files" >/dev/null
# The licences of what is brought along: every library of Debian's but those of each Linux.
licenses=$(echo "$work"/files/*.dist-info/licenses)
for library in $(ldd build/release/repquant | awk '$3 ~ "^(/usr)?/lib/" {print $3}'); do
  package=$(dpkg -S "*/$(basename "$library")" | head -1 | cut -d: -f1)
  case $package in
    libc6* | libgcc-s1 | libstdc++6 | zlib1g) ;;
    *) cp "/usr/share/doc/$package/copyright" "$licenses/$package" ;;
  esac
done
$python -m wheel pack "$work/files" --dest-dir "$work" >/dev/null
PATH="$PWD/.venv/bin:$PATH" $python -m auditwheel repair "$work"/*.whl --wheel-dir "$folder" \
  --exclude 'libtorch*.so' --exclude 'libc10.so'
