# setup.sh - what demo.sh and test.sh have in common; to be sourced from the repository's root.
#
# Everything is done once: what is already there is left alone, so a second run is quick.

say() {
    printf '\n==> %s\n' "$*"
}

# as_root COMMAND...: with sudo only where needed
as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        echo "error: '$*' needs root, and there is no sudo: run this as root" >&2
        exit 1
    fi
}

# setup_packages PACKAGE...: install those that are missing
setup_packages() {
    missing=""
    for package in "$@"; do
        dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed ||
            missing="$missing $package"
    done
    [ -n "$missing" ] || return 0
    say "Installing Debian packages:$missing"
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -q update >/dev/null
    # shellcheck disable=SC2086 # a list of words
    as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get -qq -o Dpkg::Use-Pty=0 install -y --no-install-recommends $missing >/dev/null
}

# setup_build PRESET [TARGET...]: configure once, build what changed
setup_build() (
    preset=$1
    shift
    say "Building (build/$preset)"
    [ -f "build/$preset/build.ninja" ] || cmake --preset "$preset" >/dev/null
    if [ $# -gt 0 ]; then
        cmake --build --preset "$preset" --target "$@"
    else
        cmake --build --preset "$preset"
    fi
)

# setup_models NAME...: pull the models that are missing
setup_models() {
    say "Models: $*"
    build/release/cli/dragoman models pull "$@"
}
