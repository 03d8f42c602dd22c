#!/bin/sh
# The real peers of the end-to-end tests, from Debian's packages: installed where we are root, else named. OHIF comes
# from npm, into build/.
# Their services are kept from starting: the tests run their own, on free ports.
set -eu

missing=""
need() { # need COMMAND PACKAGE
    PATH="$PATH:/usr/sbin:/usr/local/sbin" command -v "$1" >/dev/null 2>&1 || missing="$missing $2"
}
need storescu dcmtk
need Orthanc orthanc
need dciodvfy dicom3tools
need chromium chromium
need npm npm
need cc gcc
[ -e /usr/include/string.h ] || missing="$missing libc6-dev"
[ -e /usr/share/orthanc/plugins/libOrthancDicomWeb.so ] || missing="$missing orthanc-dicomweb"
need java default-jre-headless
[ -e /usr/share/java/pixelmed.jar ] || missing="$missing pixelmed-apps"
ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || missing="$missing postgresql"

install_packages() {
    if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
        echo "not installed, and not root, so the tests that need them are skipped:$missing" >&2
        return 0
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
    apt_install() { apt-get install -y -qq --no-install-recommends $missing >/dev/null; }
    apt_install 2>/dev/null || { apt-get update -qq && apt_install; } ||
        echo "apt could not install$missing; the tests that need them are skipped" >&2
}
[ -z "$missing" ] || install_packages

# NVIDIA's bindings of TensorRT 10 and 11 without its libraries: what names they have is a test.
bindings() { # bindings MAJOR REQUIREMENT
    [ -e "build/tensorrt/$1/tensorrt_bindings" ] || {
        echo "fetching $2"
        "${BIN:-.venv/bin}/python" -m pip install --quiet --no-deps --target "build/tensorrt/$1" "$2"
    } || echo "pip could not fetch $2; the test that needs it is skipped" >&2
}
bindings 10 tensorrt-cu12-bindings==10.16.1.11
bindings 11 tensorrt-cu13-bindings==11.4.0.106

# OHIF's pages as they are published, unpacked only; npm checks the archive's digest.
ohif=@ohif/app@3.12.10
pages=build/ohif
[ -e "$pages/package/dist/index.html" ] || {
    echo "fetching $ohif"
    mkdir -p "$pages" &&
        npm pack --silent --pack-destination "$pages" "$ohif" >/dev/null &&
        tar xzf "$pages"/ohif-app-*.tgz -C "$pages" &&
        rm -f "$pages"/ohif-app-*.tgz
} || echo "npm could not fetch $ohif; the tests that need it are skipped" >&2
