#!/usr/bin/env bash
# make setup: everything that Sandpool needs on this machine. Says what it does; a second run does nothing.
#
#   1. a virtual environment in .venv with the hashed packages of requirements.lock, and our two distributions editable;
#   2. as root on Debian or Ubuntu, by apt: RabbitMQ, PostgreSQL, runsc (from backports where the release's own is too
#      old), mmdebstrap, PgBouncer. No system service is started or enabled: we run private servers on free ports.
#
# Where step 2 is not possible it names what is missing and how to get it. Exit codes: 0 done (what is missing only means
# that the demo runs embedded); 1 step 1 failed; 3 with --strict: a program of step 2 is missing (CI wants to know).
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/system.sh
source scripts/system.sh

STRICT=0
[ "${1:-}" = "--strict" ] && STRICT=1
STAMP=.venv/.sandpool-setup

say() { printf 'setup: %s\n' "$*"; }

wanted_state() { cat requirements.lock pyproject.toml sdk/python/pyproject.toml scripts/setup.sh | sha256sum; pwd; }

find_python() {
  local name
  for name in python3.11 python3.12 python3.13 python3; do
    if command -v "$name" >/dev/null && "$name" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null; then
      command -v "$name"
      return
    fi
  done
  return 1
}

make_environment() {
  local python
  if [ -x .venv/bin/python ] && .venv/bin/python -c '' 2>/dev/null; then return; fi
  if ! python=$(find_python) && can_install; then
    say "installing Python 3"
    install_packages python3 python3-venv
    python=$(find_python) || true
  fi
  if [ -n "${python:-}" ]; then
    say "making .venv with $("$python" --version)"
    "$python" -m venv .venv 2>/dev/null && return
    if can_install; then
      install_packages python3-venv
      "$python" -m venv --clear .venv && return
    fi
  fi
  if command -v uv >/dev/null && uv venv --quiet --clear --python 3.11 .venv; then return; fi
  say "FAILED: no Python 3.11 to 3.13 with its venv module; on Debian 12 or newer: apt-get install python3-venv" >&2
  exit 1
}

# uv where it is (seconds instead of a minute), pip where it is not or cannot reach an index that only pip is told about.
install_python_packages() {
  local own=(--no-deps --no-build-isolation -e . -e sdk/python)
  if command -v uv >/dev/null; then
    say "installing the packages of requirements.lock with uv"
    if uv pip install --quiet --python .venv/bin/python --require-hashes -r requirements.lock &&
      uv pip install --quiet --python .venv/bin/python "${own[@]}"; then
      return
    fi
    say "uv could not: trying pip"
  fi
  .venv/bin/python -m pip --version >/dev/null 2>&1 || .venv/bin/python -m ensurepip --default-pip >/dev/null
  say "installing the packages of requirements.lock with pip (about a minute)"
  .venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
  .venv/bin/python -m pip install --quiet --disable-pip-version-check "${own[@]}"
}

set_up_python() {
  if [ -f "$STAMP" ] && [ -x .venv/bin/python ] && [ "$(cat "$STAMP")" = "$(wanted_state)" ]; then return; fi
  make_environment
  install_python_packages || { say "FAILED: the Python packages could not be installed" >&2; exit 1; }
  wanted_state >"$STAMP"
  say "Python packages are installed in .venv"
}

set_up_system() {
  local missing
  missing=$(missing_programs)
  if [ -n "$missing" ] && can_install; then
    say "installing by apt:" $missing
    # One by one: a package that this release lacks must not keep the others away.
    for program in $missing; do
      install_program "$program" || say "could not install $program (see above)" >&2
    done
    missing=$(missing_programs)
  fi
  [ -z "$missing" ] && return
  say "MISSING on this machine: $(echo $missing)"
  for program in $missing; do say "  $(remedy "$program")"; done
  if [ "$STRICT" = 1 ]; then
    say "FAILED: --strict needs all of them" >&2
    exit 3
  fi
  say "continuing: without RabbitMQ or PostgreSQL the demo runs embedded, and \`make test\` fails where it needs them"
}

set_up_python
set_up_system
say "ready"
