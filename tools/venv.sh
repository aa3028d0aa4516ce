#!/bin/sh
# Usage: tools/venv.sh PYTHON FOLDER EXTRAS
#
# Sees to it that FOLDER is a virtual environment of PYTHON that holds this package, editable, with
# its EXTRAS (comma-separated). An environment made by another interpreter, or in another place, is
# made anew. What is up to date is left alone, by content and not by time, so that it works without
# git and after a checkout.
set -eu
cd "$(dirname "$0")/.."
python=$1 folder=$2 extras=$3

found=$("$python" -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])' 2>/dev/null) || found=
if [ -z "$found" ]; then
    echo "PYTHON=$python does not start. Name Python 3.11 or newer, as in: make PYTHON=python3.13 test" >&2
    exit 2
elif ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    echo "PYTHON=$python is Python $found, and jaxformer needs 3.11 or newer. Name one, as in: make PYTHON=python3.13 test" >&2
    exit 2
fi

maker="$found $("$python" -c 'import sys; print(sys.base_prefix)') $(pwd)"
if [ "$(cat "$folder/made-by" 2>/dev/null)" != "$maker" ]; then
    echo "Making $folder with Python $found"
    # PYTHON may be that of the environment to be removed; the one behind it stays.
    base=$("$python" -c 'import sys; print(getattr(sys, "_base_executable", sys.executable))')
    rm -rf "$folder"
    "$base" -m venv "$folder"
    echo "$maker" > "$folder/made-by"
fi

pins=constraints/py$(echo "$found" | cut -d . -f 1,2 | tr -d .).txt
if [ ! -f "$pins" ]; then
    echo "There is no $pins: the newest versions that pyproject.toml allows are taken."
    pins=/dev/null
fi
wanted="$(cat pyproject.toml "$pins" | cksum)"
ready="$folder/ready-$extras"
if [ "$(cat "$ready" 2>/dev/null)" != "$wanted" ]; then
    echo "Installing jaxformer[$extras] into $folder (a few minutes the first time)"
    "$folder/bin/python" -m pip --disable-pip-version-check install -qq \
        --constraint "$pins" --editable ".[$extras]"
    echo "$wanted" > "$ready"
fi
