#!/bin/sh
# The real peers of the end-to-end tests, from Debian's packages: installed where we are root, else named.
# Their services are kept from starting: the tests run their own, on free ports.
set -eu

missing=""
need() { # need COMMAND PACKAGE
    PATH="$PATH:/usr/sbin:/usr/local/sbin" command -v "$1" >/dev/null 2>&1 || missing="$missing $2"
}
need storescu dcmtk
need Orthanc orthanc
need dciodvfy dicom3tools
need java default-jre-headless
[ -e /usr/share/java/pixelmed.jar ] || missing="$missing pixelmed-apps"
ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || missing="$missing postgresql"
[ -n "$missing" ] || exit 0

if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
    echo "not installed, and not root, so the tests that need them are skipped:$missing" >&2
    exit 0
fi

export DEBIAN_FRONTEND=noninteractive
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT INT TERM
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod +x "$policy"
fi
echo "installing for the tests:$missing"
# shellcheck disable=SC2086  # a list of package names
install() { apt-get install -y -qq --no-install-recommends $missing >/dev/null; }
install 2>/dev/null || { apt-get update -qq && install; } ||
    echo "apt could not install$missing; the tests that need them are skipped" >&2
