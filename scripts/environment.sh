# For the scripts beside it: `. scripts/environment.sh`.

# environment PLACE PYTHON PACKAGES…: an environment with these packages, made anew when they or the interpreter change.
environment() {
    local place=$1 python=$2 wanted
    shift 2
    wanted="$("$python" -VV) $*"
    if [ "$(cat "$place/made-from" 2>/dev/null || true)" != "$wanted" ]; then
        rm -rf "$place"
        "$python" -m venv "$place"
        "$place/bin/python" -m pip install --quiet --disable-pip-version-check "$@"
        printf '%s\n' "$wanted" > "$place/made-from"
    fi
}
