#!/usr/bin/env bash
# Installs what building and testing needs: Debian packages (with apt, as root or through sudo) and
# a virtual environment with LibTorch in .venv. Does nothing where all of it is there already.
#
#   CMAKE_PREFIX_PATH=/path/to/libtorch   use that LibTorch; no virtual environment is made
#   REPQUANT_PYTHON=/path/to/python3      the Python that makes the virtual environment
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

packages=(
  ca-certificates ccache cmake g++ ninja-build python3 python3-venv
  libbenchmark-dev libcli11-dev libgmock-dev libgtest-dev libjpeg62-turbo-dev
  libpng-dev libspdlog-dev libssl-dev libzip-dev nlohmann-json3-dev
)

say() { echo "setup: $*" >&2; }

install_packages() {
  if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
    say "not a Debian system: please see to the equivalents of: ${packages[*]}"
    return
  fi
  local missing=()
  local package
  for package in "${packages[@]}"; do
    if [[ "$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null)" != installed ]]; then
      missing+=("$package")
    fi
  done
  if ((${#missing[@]} == 0)); then return; fi
  local as_root=()
  if ((EUID != 0)); then
    if ! command -v sudo >/dev/null; then
      say "these Debian packages are missing, and neither root nor sudo is at hand: ${missing[*]}"
      exit 1
    fi
    as_root=(sudo)
  fi
  say "installing ${missing[*]}"
  "${as_root[@]}" apt-get update -qq
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

# True if CMAKE_PREFIX_PATH names a LibTorch.
has_own_libtorch() {
  local prefix
  local IFS=':;'
  for prefix in ${CMAKE_PREFIX_PATH:-}; do
    if [[ -n "$prefix" ]] && compgen -G "$prefix/share/cmake/Torch/TorchConfig.cmake" >/dev/null ||
      compgen -G "$prefix/Torch/TorchConfig.cmake" >/dev/null; then
      return 0
    fi
  done
  return 1
}

make_environment() {
  local stamp=.venv/.repquant-requirements
  if [[ -x .venv/bin/python ]] && cmp -s scripts/requirements.txt "$stamp"; then return; fi
  if [[ ! -x .venv/bin/python ]] || ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
    say "making the virtual environment .venv"
    rm -rf .venv
    "${REPQUANT_PYTHON:-python3}" -m venv .venv
  fi
  # Which package index is used is pip's own configuration (pip.conf or PIP_INDEX_URL and the like).
  # The default build of torch for Linux carries several gigabytes of GPU libraries; an index that
  # offers a build without them saves that download.
  say "installing LibTorch into .venv"
  .venv/bin/python -m pip install --quiet --disable-pip-version-check -r scripts/requirements.txt
  # A GPU build asks for the CUDA toolkit when CMake looks it up.
  if ! .venv/bin/python -c 'import sys, torch; sys.exit(torch.version.cuda is not None)'; then
    say "pip installed the GPU build of torch, which needs the CUDA toolkit to compile against;"
    say "point pip at an index of CPU builds (PIP_INDEX_URL), delete .venv and run this again,"
    say "or name a LibTorch of your own with CMAKE_PREFIX_PATH"
    exit 1
  fi
  cp scripts/requirements.txt "$stamp"
}

install_packages
if has_own_libtorch; then
  say "using the LibTorch of CMAKE_PREFIX_PATH"
else
  make_environment
fi
