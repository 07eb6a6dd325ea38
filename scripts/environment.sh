# For the scripts beside it: `. scripts/environment.sh`.

# Compiled Python is kept, also where the user's settings forbid it: an import of PyTorch takes twice as long without. No
# source tree is written to.
unset PYTHONDONTWRITEBYTECODE
export PYTHONPYCACHEPREFIX=$PWD/target/pycache

# environment PLACE PYTHON PACKAGES…: an environment with these packages, made anew when they or the interpreter change.
environment() {
    local place=$1 python=$2 wanted
    shift 2
    wanted="$("$python" -VV) $*"
    if [ "$(cat "$place/made-from" 2>/dev/null || true)" != "$wanted" ]; then
        rm -rf "$place"
        "$python" -m venv "$place" &&
            "$place/bin/python" -m pip install --quiet --disable-pip-version-check "$@" &&
            printf '%s\n' "$wanted" > "$place/made-from"
    fi
}

# torch_environment PYTHON: the environment with the PyTorch of tests/python/requirements-torch.txt, or with version TORCH. Its
# place is in $torch_place.
torch_environment() {
    local python=$1 needed=tests/python/requirements-torch.txt left_out=tests/python/left-out-torch.txt version wanted
    version=${TORCH:-$(sed -n 's/^torch==//p' $needed)}
    torch_place=$PWD/target/python-torch-$version
    wanted="$("$python" -VV) $(cat $needed $left_out)"
    if [ "$(cat "$torch_place/made-from" 2>/dev/null || true)" != "$wanted" ]; then
        rm -rf "$torch_place"
        "$python" -m venv "$torch_place" &&
            "$torch_place/bin/python" -m pip install --quiet --disable-pip-version-check 'uv>=0.8,<1' &&
            VIRTUAL_ENV=$torch_place "$torch_place/bin/uv" pip install --quiet --overrides $left_out \
                "torch==$version" $(grep -v '^#\|^torch==' $needed) &&
            printf '%s\n' "$wanted" > "$torch_place/made-from"
    fi
}

# install_wheel PLACE: into this environment, the wheel that scripts/build_wheel made.
install_wheel() {
    local wheel
    wheel=$(echo target/wheel/dist/*.whl)
    if [ ! -e "$wheel" ]; then
        echo "error: there is no wheel in target/wheel/dist; build it: scripts/build_wheel" >&2
        exit 1
    fi
    "$1/bin/python" -m pip install --quiet --disable-pip-version-check --force-reinstall --no-deps "$wheel"
}
