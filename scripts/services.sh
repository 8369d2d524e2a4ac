#!/bin/sh
# Fetches, builds, starts and stops the servers that a full instance needs, for tests and for trying.
# This script only finds Python; scripts/services does the rest. `scripts/services.sh --help` says how.
set -eu

script=$0
while [ -h "$script" ]; do
    target=$(readlink "$script")
    case $target in
        /*) script=$target ;;
        *) script=$(dirname "$script")/$target ;;
    esac
done
root=$(CDPATH='' cd "$(dirname "$script")/.." && pwd -P)
new_enough='import sys; raise SystemExit(sys.version_info < (3, 11))'

for name in "${CV3_VENV:-$root/.venv}/bin/python" "${CV3_PYTHON:-}" python3.11 python3.12 python3.13 python3.14 python3; do
    [ -n "$name" ] || continue
    if command -v "$name" >/dev/null 2>&1 && "$name" -c "$new_enough" >/dev/null 2>&1; then
        PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH} exec "$name" -m scripts.services "$@"
    fi
done
echo "scripts/services.sh needs Python 3.11 or newer, and none was found." >&2
exit 3
