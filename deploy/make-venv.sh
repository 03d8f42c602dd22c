#!/bin/sh
# Make a virtual environment: make-venv.sh PYTHON DIRECTORY.
# Debian ships Python without ensurepip; where we are root the package that holds it is installed.
set -eu
python=$1
venv=$2

if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    echo "Python 3.11 or later is needed, and \`$python\` is none; say which: make PYTHON=/path/to/python3.11" >&2
    exit 1
fi
if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
        echo "installing python3-venv, which Debian's Python needs to make an environment"
        export DEBIAN_FRONTEND=noninteractive
        apt-get install -y -qq --no-install-recommends python3-venv >/dev/null 2>&1 ||
            { apt-get update -qq && apt-get install -y -qq --no-install-recommends python3-venv >/dev/null; }
    else
        echo "this Python cannot make an environment; as root: apt-get install python3-venv" >&2
        exit 1
    fi
fi
rm -rf "$venv"
"$python" -m venv "$venv"
