#!/bin/sh
# Install pixelcnn: get the program of the latest release for this system, check it, and put it into a folder.
#
#   curl -fsSL REPOSITORY/releases/latest/download/install.sh | sh
#
# PIXELCNN_BIN names the folder [default: ~/.local/bin], PIXELCNN_VERSION a release such as v0.1.0 [default: the latest], and
# PIXELCNN_RELEASES where archives lie, if not at the repository. For Windows there is a zip file beside this script.
set -eu

fail() {
    echo "error: $*" >&2
    exit 1
}

repository="@REPOSITORY@"
if [ -n "${PIXELCNN_RELEASES:-}" ]; then
    releases=$PIXELCNN_RELEASES
elif [ -n "${PIXELCNN_VERSION:-}" ]; then
    releases=$repository/releases/download/$PIXELCNN_VERSION
else
    releases=$repository/releases/latest/download
fi
case $releases in *://*) ;; *) fail "it is not known where releases are: set PIXELCNN_RELEASES to their URL" ;; esac

case $(uname -s)-$(uname -m) in
Linux-x86_64 | Linux-amd64) target=x86_64-unknown-linux-gnu ;;
Linux-aarch64 | Linux-arm64) target=aarch64-unknown-linux-gnu ;;
Darwin-x86_64) target=x86_64-apple-darwin ;;
Darwin-arm64) target=aarch64-apple-darwin ;;
*) fail "there is no archive for $(uname -s) on $(uname -m): build it with cargo (README.md)" ;;
esac
# The program needs glibc, which other C libraries do not replace.
if [ "$(uname -s)" = Linux ] && ldd --version 2>&1 | grep -qi musl; then
    fail "this system has musl instead of glibc: build it with cargo (README.md)"
fi

archive=pixelcnn-$target.tar.gz
folder=${PIXELCNN_BIN:-$HOME/.local/bin}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
get() {
    if command -v curl >/dev/null; then
        curl -fsSL -o "$work/$1" "$releases/$1"
    else
        wget -q -O "$work/$1" "$releases/$1"
    fi || fail "$releases/$1 cannot be had"
}
get "$archive"
get "$archive.sha256"
(
    cd "$work"
    if command -v sha256sum >/dev/null; then sha256sum -c "$archive.sha256"; else shasum -a 256 -c "$archive.sha256"; fi
) >/dev/null 2>&1 || fail "$archive is not what its checksum says: nothing is installed"

tar -xzf "$work/$archive" -C "$work"
mkdir -p "$folder"
# In one step, so that there is never half a program.
cp "$work/pixelcnn-$target/pixelcnn" "$folder/.pixelcnn.new"
chmod 755 "$folder/.pixelcnn.new"
"$folder/.pixelcnn.new" --version >/dev/null || {
    rm -f "$folder/.pixelcnn.new"
    fail "the program does not run here (it needs glibc 2.28 or newer): nothing is installed"
}
mv "$folder/.pixelcnn.new" "$folder/pixelcnn"
echo "$("$folder/pixelcnn" --version): $folder/pixelcnn"
case :$PATH: in *:"$folder":*) ;; *) echo "note: $folder is not on the PATH" ;; esac
