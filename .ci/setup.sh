#!/bin/sh
# Brings .venv up to date with constraints.txt, setup.py and the C++/CUDA sources; `make` calls it.
# usage: sh .ci/setup.sh deps|build [python interpreter]
#
# A stamp is written as the last act of a stage and holds a hash of all that the stage was made of,
# so a stage that was cut short, or whose inputs changed, is done again.
set -eu

stage=$1
wanted=${2:-}
venv=.venv
python=$venv/bin/python
unfinished=$venv/.unfinished
export PIP_DISABLE_PIP_VERSION_CHECK=1

say() { printf '[setup] %s\n' "$*"; }
fail() {
  printf '[setup] error: %s\n' "$1" >&2
  shift
  for line in "$@"; do printf '[setup]        %s\n' "$line" >&2; done
  exit 1
}
timed() {
  label=$1
  shift
  started=$(date +%s)
  "$@"
  say "$label: $(($(date +%s) - started)) s"
}
version_of() { "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null || true; }
supported() { case $1 in 3.10 | 3.11 | 3.12 | 3.13) true ;; *) false ;; esac }

find_interpreter() {
  if [ -n "$wanted" ]; then
    command -v "$wanted" >/dev/null 2>&1 || fail "PYTHON=$wanted is not a command" \
      "give the path of a Python 3.10 to 3.13: make ... PYTHON=/path/to/python3.12"
    supported "$(version_of "$wanted")" || fail \
      "PYTHON=$wanted is Python $(version_of "$wanted"); 3.10 to 3.13 are supported"
    interpreter=$wanted
    return
  fi
  for interpreter in python3 python3.12 python3.11 python3.13 python3.10; do
    if supported "$(version_of "$interpreter")"; then
      return
    fi
  done
  found=$(version_of python3)
  case $found in
    3.1[4-9]) why="mmengine $(sed -n 's/^mmengine==//p' constraints.txt) needs pkgutil.find_loader, which 3.14 removed" ;;
    '') why="no python3 was found" ;;
    *) why="it is too old" ;;
  esac
  fail "python3 is Python ${found:-(none)}; 3.10 to 3.13 are supported ($why)" \
    "install one of them and name it: make ... PYTHON=python3.12"
}

create_venv() {
  find_interpreter
  "$interpreter" -c 'import ensurepip, venv' 2>/dev/null || fail \
    "$(command -v "$interpreter") cannot create virtual environments (venv or ensurepip is missing)" \
    "Debian, Ubuntu: apt install python$(version_of "$interpreter")-venv" \
    "Fedora: dnf install python3-pip · conda: conda install pip"
  say "creating $venv with $(command -v "$interpreter") ($(version_of "$interpreter"))"
  mkdir -p $venv
  : >$unfinished
  "$interpreter" -m venv $venv
}

# opencv-python links against libGL and libglib, which servers and containers often lack; the
# headless build of the same version is the same cv2 without the windows.
mend_opencv() {
  if $python -c 'import cv2' 2>/dev/null; then
    return
  fi
  pin=$(sed -n 's/^opencv-python==//p' constraints.txt)
  say "cv2 lacks a system library (libGL or libglib): using opencv-python-headless $pin"
  $python -m pip install -qq --no-deps --force-reinstall "opencv-python-headless==$pin"
}

install_deps() {
  say "installing the pinned packages (about 5 GB, 2 to 4 minutes, nothing to see meanwhile)"
  timed "torch and torchvision" $python -m pip install -qq --progress-bar off --retries 10 \
    -c constraints.txt torch torchvision
  timed "the other packages" $python -m pip install -qq --progress-bar off --retries 10 -r constraints.txt
  mend_opencv
  timed "import check" $python -c 'import cv2, mmdet, mmengine, pytest, torch, torchvision, transformers'
}

deps() {
  if [ -e $unfinished ]; then
    say "the last set-up did not finish: starting again"
    rm -rf $venv
  fi
  if [ -d $venv ] && [ -z "$(version_of $python)" ]; then
    say "$venv has lost its interpreter: starting again"
    rm -rf $venv
  fi
  if [ -n "$wanted" ] && [ -d $venv ] && [ "$(version_of $python)" != "$(version_of "$wanted")" ]; then
    say "$venv is Python $(version_of $python), PYTHON=$wanted asks for another: starting again"
    rm -rf $venv
  fi
  key=$(cat constraints.txt .ci/setup.sh | cksum)
  if [ "$(cat $venv/.stamp-deps 2>/dev/null)" = "$key" ]; then
    return
  fi
  [ -d $venv ] || create_venv
  : >$unfinished
  install_deps
  rm $unfinished
  printf '%s\n' "$key" >$venv/.stamp-deps
}

compilers() { command -v c++ g++ clang++ nvcc || true; }
python_headers() {
  $python -c 'import os, sysconfig as s; print(os.path.exists(s.get_path("include") + "/Python.h"))'
}

build_key() {
  # Compilers and headers are part of the key: whoever installs them later gets the extension. So is
  # the folder, which the editable install names.
  {
    cat $venv/.stamp-deps pyproject.toml setup.py
    find fgclip_det/ops/csrc -type f | LC_ALL=C sort | xargs cat
    pwd
    compilers
    python_headers
  } | cksum
}

# Settings of one run stay with what was built: a later plain `make` does not undo FORCE_CUDA=1.
settings="${FORCE_CUDA:-}${TORCH_CUDA_ARCH_LIST:-}${FGCLIP_DET_INDEX_ASSERTION:-}"
same_settings() { [ -z "$settings" ] || [ "$(cat $venv/.built-with 2>/dev/null)" = "$settings" ]; }

extension_is_there() {
  built=$(cat $venv/.built-extension 2>/dev/null || true)
  [ -z "$built" ] || [ -e "$built" ]
}

build() {
  key=$(build_key)
  if [ "$(cat $venv/.stamp-build 2>/dev/null)" = "$key" ] && extension_is_there && same_settings; then
    return
  fi
  rm -f $venv/.stamp-build
  say "building the operators (log: $venv/build.log)"
  started=$(date +%s)
  if ! $python -m pip install -v --no-deps --no-build-isolation -e . >$venv/build.log 2>&1; then
    tail -n 30 $venv/build.log >&2
    fail "the package could not be installed; the whole log is $venv/build.log"
  fi
  say "the operators: $(($(date +%s) - started)) s"
  find fgclip_det -name '_C*.so' | head -n 1 >$venv/.built-extension
  if [ ! -s $venv/.built-extension ]; then
    say "no compiled operators; the PyTorch reference is used instead: same numbers, slower"
    if [ -n "$(compilers)" ] && [ "$(python_headers)" = True ]; then
      say "their compilation failed, the next 'make' tries again:"
      grep -m 3 -i 'error' $venv/build.log | cut -c 1-160 >&2 || true
      return
    fi
    say "they need a C++ compiler and Python's headers (Debian, Ubuntu: apt install g++ python3-dev)"
  fi
  printf '%s\n' "$settings" >$venv/.built-with
  printf '%s\n' "$key" >$venv/.stamp-build
}

case $stage in
  deps | build) $stage ;;
  *) fail "unknown stage '$stage'" ;;
esac
