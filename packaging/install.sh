#!/bin/sh
# Install dcmvault for a machine: a user of its own, a venv, and its hardened unit for systemd.
#
#     sudo packaging/install.sh [--dry-run] WHEEL
#
# With a file requirements.txt beside this folder, dependencies are installed by their hashes.
# Running it again upgrades. Nothing of the state folder is ever removed.
set -eu

prefix=/opt/dcmvault
state=/var/lib/dcmvault
user=dcmvault
dry_run=

say() { printf '%s\n' "$*" >&2; }

run() {
    if [ -n "$dry_run" ]; then
        printf '%s\n' "$*"
    else
        "$@"
    fi
}

if [ "${1:-}" = --dry-run ]; then
    dry_run=yes
    shift
fi
if [ $# -ne 1 ] || [ ! -f "$1" ]; then
    say "usage: install.sh [--dry-run] WHEEL"
    exit 2
fi
wheel=$1
requirements=$(dirname "$0")/../requirements.txt

if [ -z "$dry_run" ] && [ "$(id -u)" -ne 0 ]; then
    say "install.sh: run it as root, or with --dry-run to see what it would do"
    exit 1
fi
if ! python3 -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    say "install.sh: Python 3.11 or later with venv is needed: apt-get install -y python3-venv"
    exit 1
fi

if ! id "$user" >/dev/null 2>&1; then
    run useradd --system --home-dir "$state" --no-create-home --shell /usr/sbin/nologin "$user"
fi
run install -d -m 0700 -o "$user" -g "$user" "$state"
run python3 -m venv "$prefix"
if [ -f "$requirements" ]; then
    run "$prefix/bin/pip" install --quiet --require-hashes -r "$requirements"
    run "$prefix/bin/pip" install --quiet --no-deps --force-reinstall "$wheel"
else
    run "$prefix/bin/pip" install --quiet --upgrade "${wheel}[web]"
fi
run ln -sf "$prefix/bin/dcmvault" /usr/local/bin/dcmvault

# The unit is written by the program itself, so that there is one of it.
run env "DCMVAULT_HOME=$state" "$prefix/bin/dcmvault" service install --system --user "$user"
if [ -z "$dry_run" ]; then
    say "Next: sudo -u $user DCMVAULT_HOME=$state dcmvault config init"
fi
