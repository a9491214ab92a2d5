#!/usr/bin/env bash
# Makes a fresh machine ready, once: the environment in .venv, the system tools the embedded cluster
# calls, and kubectl. What is there already is left alone; what cannot be installed is named.
set -euo pipefail
cd "$(dirname "$0")/.."

python=${PYTHON:-python3}
kubectl_oldest=31            # kubectl 1.31 or later
stamp=.venv/.setup-done

say() { printf '\033[1m%s\033[0m\n' "$*" >&2; }
fail() { printf 'setup: %s\n' "$*" >&2; exit 1; }

wanted() { cat pyproject.toml constraints.txt scripts/setup.sh images/kubectl/* | sha256sum | cut -d' ' -f1; }

# --- system tools: command and Debian package
missing_packages() {
    local tool
    for tool in nft:nftables ip:iproute2 curl:curl tcpdump:tcpdump; do
        command -v "${tool%%:*}" >/dev/null || printf '%s ' "${tool##*:}"
    done
    "$python" -c 'import venv, ensurepip' 2>/dev/null || printf 'python3-venv '
}

system_tools() {
    local packages
    packages=$(missing_packages)
    [ -n "$packages" ] || return 0
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        say "Installing system packages: $packages"
        apt-get update -qq
        # shellcheck disable=SC2086 - a list of names
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $packages >/dev/null
    else
        fail "missing system packages. Run: sudo apt-get install $packages"
    fi
}

# --- the Python environment: by uv, which takes seconds, else by pip
environment() {
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
        fail "$python is $("$python" -V); Python 3.11 or later is needed. Set PYTHON=/path/to/python3.11"
    [ -x .venv/bin/python ] || "$python" -m venv .venv
    say "Installing Python packages into .venv"
    if .venv/bin/python -m pip install -q --disable-pip-version-check uv &&
        UV_SYSTEM_CERTS=1 UV_NATIVE_TLS=1 UV_DEFAULT_INDEX="${UV_DEFAULT_INDEX:-${PIP_INDEX_URL:-https://pypi.org/simple}}" \
            .venv/bin/uv pip install -q --python .venv/bin/python -c constraints.txt -e '.[lab,dev]'; then
        return
    fi
    .venv/bin/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[lab,dev]'
}

# --- kubectl: from the PATH, else built with Go (cached by version), else the way is told
kubectl_minor() {
    "$1" version --client -o json 2>/dev/null |
        "$python" -c 'import json,sys; print(json.load(sys.stdin)["clientVersion"]["minor"].rstrip("+"))' 2>/dev/null || echo 0
}

kubectl_ready() {
    local found version cache
    found=$(PATH="$PWD/.venv/bin:$PATH" command -v kubectl || true)
    if [ -n "$found" ] && [ "$(kubectl_minor "$found")" -ge "$kubectl_oldest" ]; then return; fi
    version=$(sed -n 's#^\tk8s.io/kubectl v0\.#1.#p' images/kubectl/go.mod)
    cache="${XDG_CACHE_HOME:-$HOME/.cache}/meshlab/kubectl-$version"
    if [ ! -x "$cache" ]; then
        command -v go >/dev/null ||
            fail "no kubectl 1.$kubectl_oldest or later on the PATH, and no Go to build one.
  Install it: https://kubernetes.io/docs/tasks/tools/#kubectl"
        say "Building kubectl $version with Go (once; a minute or two)"
        mkdir -p "$(dirname "$cache")"
        local ldflags="-s -w -X k8s.io/component-base/version.gitVersion=v$version"
        ldflags+=" -X k8s.io/component-base/version.gitMajor=1"
        ldflags+=" -X k8s.io/component-base/version.gitMinor=$(cut -d. -f2 <<<"$version")"
        (cd images/kubectl && CGO_ENABLED=0 go build -trimpath -ldflags "$ldflags" -o "$cache" .)
    fi
    ln -sf "$cache" .venv/bin/kubectl
}

if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$(wanted)" ] && [ -z "$(missing_packages)" ]; then exit 0; fi
system_tools
environment
kubectl_ready
wanted >"$stamp"
say "Ready."
