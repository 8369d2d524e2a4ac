#!/bin/sh
# Prepare a Vault for one instance of Cafe Variome: engines, policies, roles, a wrapped secret id.
#
#   VAULT_TOKEN=… scripts/setup_vault.sh [--config FILE] [--issue [query]] [--bound-cidr CIDR …]
#   scripts/setup_vault.sh [--config FILE] --unwrap FILE      (the wrapping token on standard input)
#
# The token of somebody who may do all this comes from VAULT_TOKEN or from the first line of
# standard input, never as an argument: arguments of a program are seen by everybody on a machine.
# It may be run again at any time. All of it is in scripts/vault/setup.py, which needs Python 3.11
# and nothing else; docs/operations/vault.md explains it.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
for python in "${PYTHON:-}" python3.13 python3.12 python3.11 python3; do
    if [ -n "$python" ] && command -v "$python" >/dev/null 2>&1 &&
        "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        exec "$python" "$here/vault/setup.py" "$@"
    fi
done
echo "Python 3.11 or newer is needed: install it, or name it: PYTHON=/path/to/python3" >&2
exit 2
