#!/usr/bin/env bash
# Installs, from Debian's own archive, the real services and clients that the tests start.
# Does nothing, quickly, when all of them are there.
set -euo pipefail

# No version of the PostgreSQL package but 15 is tried: the production line is tested on it.
packages=(
    aardvark-dns buildah busybox-static chromium containerd crun curl docker-registry docker.io fuse-overlayfs
    iproute2 iptables jq netavark nginx openssl podman postgresql-15 rsyslog rsyslog-openssl runc skopeo systemd
    uidmap umoci wrk
)

is_installed() { [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }

if ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null; then
    echo "The tests need real services and clients, and this machine has no apt-get to install them with." >&2
    echo "Install these by hand (Debian's names): ${packages[*]}" >&2
    exit 3
fi

missing=()
for package in "${packages[@]}"; do
    is_installed "$package" || missing+=("$package")
done
[ ${#missing[@]} -eq 0 ] && exit 0

if [ "$(id -u)" -ne 0 ]; then
    echo "The tests need packages that only root may install. Run this, then try again:" >&2
    echo "    sudo $0" >&2
    exit 4
fi

# Without a policy, some packages start a daemon on every interface as soon as they are unpacked. A policy that
# is already there is somebody's decision and stays; ours leaves with us.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
    trap 'rm -f "$policy"' EXIT
fi

echo "Installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
apt-get update -q
apt-get install -y -q --no-install-recommends "${missing[@]}"
