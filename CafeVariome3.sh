#!/bin/sh
# Starts and keeps Cafe Variome 3. `./CafeVariome3.sh help` says how.
# This script only finds Python and makes the virtual environment; src/cvf_app/local does the rest.
set -eu

script=$0
while [ -h "$script" ]; do
    target=$(readlink "$script")
    case $target in
        /*) script=$target ;;
        *) script=$(dirname "$script")/$target ;;
    esac
done
here=$(CDPATH='' cd "$(dirname "$script")" && pwd -P)

venv=${CV3_VENV:-$here/.venv}
canaille_venv=${CV3_CANAILLE_VENV:-$venv-canaille}
new_enough='import sys; raise SystemExit(sys.version_info < (3, 11))'

say() { printf '%s\n' "$*" >&2; }

find_python() {
    for name in "${CV3_PYTHON:-}" python3.11 python3.12 python3.13 python3.14 python3 python; do
        [ -n "$name" ] || continue
        if command -v "$name" >/dev/null 2>&1 && "$name" -c "$new_enough" >/dev/null 2>&1; then
            command -v "$name"
            return 0
        fi
    done
    say "Cafe Variome 3 needs Python 3.11 or newer, and none was found."
    say "Install one (Debian, Ubuntu: sudo apt-get install python3 python3-venv), or name it in CV3_PYTHON."
    return 3
}

install_location() {
    [ $# -eq 1 ] || { say "Usage: CafeVariome3.sh install FOLDER"; return 2; }
    mkdir -p "$1"
    location=$(CDPATH='' cd "$1" && pwd -P)
    ln -sf "$here/CafeVariome3.sh" "$location/CafeVariome3"
    uninstall_location
    # One marked block, so that a second call replaces it and `uninstall` finds it.
    {
        printf '%s\n' "$block_begin"
        printf 'export CV3_APP_PATH="%s"\n' "$location"
        printf 'export PATH="%s:$PATH"\n' "$location"
        printf '%s\n' "$block_end"
    } >>"$HOME/.bashrc"
    say "Installed. Open a new shell, then: CafeVariome3 start"
}

block_begin='# >>> Cafe Variome 3 >>>'
block_end='# <<< Cafe Variome 3 <<<'
uninstall_location() {
    [ -f "$HOME/.bashrc" ] || return 0
    kept=$(mktemp)
    awk -v b="$block_begin" -v e="$block_end" '$0==b{skip=1} !skip{print} $0==e{skip=0}' "$HOME/.bashrc" >"$kept"
    cat "$kept" >"$HOME/.bashrc"
    rm -f "$kept"
}

case ${1:-help} in
    install) shift; install_location "$@"; exit ;;
    uninstall) uninstall_location; say "The lines in ~/.bashrc are gone."; exit ;;
esac

# `local` makes or completes the virtual environments (at once when they are complete);
# the other words only ask for one that is there.
if [ "${1:-}" = local ]; then
    python=$(find_python)
    "$python" "$here/src/cvf_app/local/environment.py" \
        --venv "$venv" --requirements "$here/requirements.txt" "$here/requirements-local.txt" \
        --venv "$canaille_venv" --requirements "$here/requirements-canaille.txt" \
        --source "$here/src" --owner "$venv"
elif [ ! -x "$venv/bin/python" ]; then
    case ${1:-help} in
        help | -h | --help) python=$(find_python) ; PYTHONPATH=$here/src exec "$python" -m cvf_app.local "$@" ;;
    esac
    say "There is no virtual environment at $venv. Make it and an instance with: $here/CafeVariome3.sh local"
    exit 3
fi

PYTHONPATH=$here/src${PYTHONPATH:+:$PYTHONPATH}
CV3_CANAILLE_VENV=$canaille_venv
CV3_HERE=$here
export PYTHONPATH CV3_CANAILLE_VENV CV3_HERE
exec "$venv/bin/python" -m cvf_app.local "$@"
