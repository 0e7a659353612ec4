# shellcheck shell=bash
# Debian packages that a script needs. Sourced; `need COMMAND PACKAGE` finds the command, installs its package as root, or
# says what to install and stops.

say() { printf '%s\n' "$*" >&2; }

need() {
    local command=$1 package=$2
    command -v "$command" >/dev/null && return
    install_package "$package"
    command -v "$command" >/dev/null || { say "$package is installed, but $command is not on the path"; exit 1; }
}

install_package() {
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        say "missing package: $1"
        say "install it, for example with: sudo apt-get install $1"
        exit 1
    fi
    say "installing $1"
    [ -n "${PACKAGE_LISTS_FRESH:-}" ] || apt-get update -qq </dev/null >&2
    PACKAGE_LISTS_FRESH=1
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$1" </dev/null >/dev/null
}
