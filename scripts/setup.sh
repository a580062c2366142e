#!/usr/bin/env bash
# Installs what building and testing needs: Debian packages (with apt, as root or through sudo) and
# a virtual environment with LibTorch in .venv. Does nothing where all of it is there already.
#
#   scripts/setup.sh [PACKAGE...]         with further Debian packages, if named
#   CMAKE_PREFIX_PATH=/path/to/libtorch   use that LibTorch; no virtual environment is made
#   REPQUANT_PYTHON=/path/to/python3      the Python that makes the virtual environment
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

packages=(
  ca-certificates ccache cmake g++ ninja-build python3 python3-venv
  libcli11-dev libeigen3-dev libgmock-dev libgtest-dev libjpeg62-turbo-dev libpng-dev
  libspdlog-dev libssl-dev libzip-dev nlohmann-json3-dev "$@"
)
readonly cpu_index=https://download.pytorch.org/whl/cpu

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

pip_install() { .venv/bin/python -m pip install --quiet --disable-pip-version-check "$@"; }

# The CPU build of torch takes 1 GB on disk; the default build for Linux brings GPU libraries, which
# are several times as large and not used. So the CPU build is asked for first: of the index that pip
# is configured for, then of PyTorch's own, which may be out of reach.
install_torch() {
  local torch
  torch=$(grep '^torch==' scripts/requirements.txt)
  if [[ $(.venv/bin/python -m pip freeze | sed 's/+.*//') == *"$torch"* ]]; then return; fi
  say "installing LibTorch into .venv"
  if pip_install "$torch+cpu" >>"$log" 2>&1; then return; fi
  if pip_install --extra-index-url "$cpu_index" --timeout 15 --retries 1 "$torch+cpu" \
    >>"$log" 2>&1; then return; fi
  say "no CPU build of $torch within reach: taking the default build, 5 to 6 GB on disk"
  pip_install "$torch"
}

make_environment() {
  local stamp=.venv/.repquant-requirements
  if [[ -x .venv/bin/python ]] && cmp -s scripts/requirements.txt "$stamp"; then return; fi
  if [[ ! -x .venv/bin/python ]] || ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
    say "making the virtual environment .venv"
    rm -rf .venv
    "${REPQUANT_PYTHON:-python3}" -m venv .venv
  fi
  mkdir -p build
  local log=build/setup.log
  : >"$log"
  install_torch
  pip_install -r scripts/requirements.txt
  cp scripts/requirements.txt "$stamp"
  say ".venv takes $(du -sh .venv | cut -f1)"
}

install_packages
if has_own_libtorch; then
  say "using the LibTorch of CMAKE_PREFIX_PATH"
else
  make_environment
fi
