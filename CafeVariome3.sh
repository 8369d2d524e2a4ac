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

# What `install` made is written into this file of the folder, so that `uninstall` takes away exactly
# that: a line for the folder itself, the example, ~/.bashrc, and the line break added to it.
made_list=.cafe-variome-installed
block_begin='# >>> Cafe Variome 3 >>>'
block_end='# <<< Cafe Variome 3 <<<'

quoted() { printf "'%s'" "$(printf '%s' "$1" | sed "s/'/'\\\\''/g")"; }

install_location() {
    [ $# -eq 1 ] || { say "Usage: CafeVariome3.sh install FOLDER"; return 2; }
    # One that was broken off is completed.
    "$venv/bin/python" -c 'import hypercorn, motor, quart' 2>/dev/null || make_environment
    made=
    [ -d "$1" ] || made=folder
    mkdir -p "$1"
    location=$(CDPATH='' cd "$1" && pwd -P)
    link=$location/CafeVariome3
    if [ -e "$link" ] && [ "$(readlink "$link" || true)" != "$here/CafeVariome3.sh" ]; then
        say "$link is there already and is not ours; nothing was changed."
        return 1
    fi
    # A second call replaces the first, and keeps what that one remembered of the folder.
    uninstall_block
    [ -f "$location/$made_list" ] && made=$(grep -x -e folder -e example "$location/$made_list" || true)
    ln -sf "$here/CafeVariome3.sh" "$link"
    if [ ! -e "$location/instance_config.json.example" ]; then
        cp "$here/instance_config.json.example" "$location/"
        made="$made
example"
    fi
    if [ ! -e "$HOME/.bashrc" ]; then
        made="$made
bashrc"
    elif [ -s "$HOME/.bashrc" ] && [ -n "$(tail -c 1 "$HOME/.bashrc")" ]; then
        made="$made
newline"
        echo >>"$HOME/.bashrc"
    fi
    printf '%s\n' "$made" | sed '/^$/d' >"$location/$made_list"
    # One marked block, so that a second call replaces it and `uninstall` finds it.
    {
        printf '%s\n' "$block_begin"
        printf 'export CV3_APP_PATH=%s\n' "$(quoted "$location")"
        printf 'export PATH=%s:"$PATH"\n' "$(quoted "$location")"
        printf '%s\n' "$block_end"
    } >>"$HOME/.bashrc"
    say "Installed in $location. Open a new shell; copy instance_config.json.example there to"
    say "instance_config.json and fill it in; what is still wrong says: cvf doctor; then: CafeVariome3 start"
}

make_environment() {
    python=$(find_python)
    "$python" "$here/src/cvf_app/local/environment.py" \
        --venv "$venv" --requirements "$here/requirements.txt" --source "$here/src" --owner "$venv"
}

# Prints the folder that the block in ~/.bashrc names.
installed_location() {
    [ -f "$HOME/.bashrc" ] || return 0
    block=$(awk -v b="$block_begin" -v e="$block_end" '$0==b{on=1} on{print} $0==e{on=0}' "$HOME/.bashrc")
    [ -n "$block" ] || return 0
    (eval "$(printf '%s\n' "$block" | grep '^export CV3_APP_PATH=')"; printf '%s\n' "$CV3_APP_PATH")
}

# Takes the block out of ~/.bashrc, and what was added to the file for it.
uninstall_block() {
    before=$(installed_location)
    [ -n "$before" ] || return 0
    remembered=$before/$made_list
    kept=$(mktemp)
    awk -v b="$block_begin" -v e="$block_end" '$0==b{skip=1} !skip{print} $0==e{skip=0}' "$HOME/.bashrc" >"$kept"
    if [ -f "$remembered" ] && grep -qx newline "$remembered" && [ -s "$kept" ]; then
        # Only the line break that we added; more may have been written behind the block since.
        tail_of_block=$(tail -n 1 "$HOME/.bashrc")
        [ "$tail_of_block" != "$block_end" ] || truncate_newline "$kept"
    fi
    if [ ! -s "$kept" ] && [ -f "$remembered" ] && grep -qx bashrc "$remembered"; then
        rm -f "$HOME/.bashrc"
    else
        cat "$kept" >"$HOME/.bashrc"
    fi
    rm -f "$kept"
}

truncate_newline() {
    whole=$(cat "$1"; printf x)
    printf '%s' "${whole%
x}" >"$1"
}

uninstall_location() {
    location=${1:-$(installed_location)}
    if [ -z "$location" ] || [ ! -f "$location/$made_list" ]; then
        say "Nothing is installed${location:+ in $location}."
        return 0
    fi
    location=$(CDPATH='' cd "$location" && pwd -P)
    if [ -x "$venv/bin/python" ] && [ -f "$location/run/guard.lock" ] &&
        CV3_APP_PATH=$location PYTHONPATH=$here/src "$venv/bin/python" -m cvf_app.local status >/dev/null 2>&1; then
        say "The instance in $location runs. Stop it first: CafeVariome3 stop"
        return 1
    fi
    [ "$(installed_location)" != "$location" ] || uninstall_block
    [ "$(readlink "$location/CafeVariome3" || true)" != "$here/CafeVariome3.sh" ] || rm -f "$location/CafeVariome3"
    if grep -qx example "$location/$made_list" &&
        cmp -s "$here/instance_config.json.example" "$location/instance_config.json.example"; then
        rm -f "$location/instance_config.json.example"
    fi
    ours=$(grep -x folder "$location/$made_list" || true)
    rm -f "$location/$made_list"
    # Never what the instance or a person has put there.
    [ -z "$ours" ] || rmdir "$location" 2>/dev/null || say "What else is in $location stays."
    say "Uninstalled."
}

case ${1:-help} in
    install) shift; install_location "$@"; exit ;;
    uninstall) shift; uninstall_location "$@"; exit ;;
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
    say "There is no virtual environment at $venv. Make it, and a local instance, with: $here/CafeVariome3.sh local"
    say "or for full mode with: $here/CafeVariome3.sh install FOLDER"
    exit 3
fi

PYTHONPATH=$here/src${PYTHONPATH:+:$PYTHONPATH}
CV3_CANAILLE_VENV=$canaille_venv
CV3_HERE=$here
export PYTHONPATH CV3_CANAILLE_VENV CV3_HERE
exec "$venv/bin/python" -m cvf_app.local "$@"
