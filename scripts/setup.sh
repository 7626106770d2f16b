#!/usr/bin/env bash
# Makes this checkout ready to run: system packages, a Python environment from the lock file
# with every hash checked, and the command .venv/bin/rackloom. Running it again costs nothing
# when nothing changed, and finishes what an interrupted run left.
#
#   scripts/setup.sh [--dev] [--lab] [--bundle=DIR [--fingerprint=SHA256:…]]
#     --dev          also what the tests and linters need
#     --lab          also what the lab of containers needs
#     --bundle       take packages from this bundle, once it has been verified; nothing is asked of a network
#     --fingerprint  of the key that must have signed it
#
# Exit status: 0 ready, 1 a step failed, 2 something is missing that only you can install.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
venv=$root/.venv
min_python=3.11 max_python=3.14   # the first that works, the first that does not

say() { printf 'setup: %s\n' "$*" >&2; }
fail() { say "$1"; exit "${2:-1}"; }

dev=0 lab=0 bundle='' fingerprint=''
for word in "$@"; do
    case $word in
        --dev) dev=1 ;;
        --lab) lab=1 ;;
        --bundle=*) bundle=${word#*=} ;;
        --fingerprint=*) fingerprint=${word#*=} ;;
        -h | --help) sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"; exit 0 ;;
        *) fail "unknown option '$word' (known: --dev --lab --bundle=DIR --fingerprint=SHA256:…)" 2 ;;
    esac
done

# --- Who does what: root for packages, the checkout's owner for files ---------------------

as_root() { # without our lock: a service that a package starts would hold it for good
    if [ "$(id -u)" = 0 ]; then "$@" 9>&-; else sudo "$@" 9>&-; fi
}
can_be_root() {
    [ "$(id -u)" = 0 ] || { command -v sudo >/dev/null && { sudo -n true 2>/dev/null || [ -t 0 ]; }; }
}

if [ "$(id -u)" = 0 ] && [ -n "${SUDO_USER:-}" ] && [ "$SUDO_USER" != root ] &&
    [ "$(stat -c %u "$root")" = "${SUDO_UID:-}" ]; then
    # Called as 'sudo scripts/setup.sh': files in the checkout stay the caller's.
    home=$(getent passwd "$SUDO_USER" | cut -d: -f6)
    as_owner() { HOME=$home runuser -u "$SUDO_USER" -- "$@"; }
else
    as_owner() { "$@"; }
fi

# One set-up at a time in a checkout; a second one waits and then finds the work done.
as_owner mkdir -p "$root/.cache"
exec 9>>"$root/.cache/setup.lock"
if command -v flock >/dev/null && ! flock -n 9; then
    say "another set-up is running in this checkout; waiting for it"
    flock 9
fi

# --- System packages ----------------------------------------------------------------------

# shellcheck source=/dev/null
os=$(. /etc/os-release 2>/dev/null && echo "${ID:-}-${VERSION_ID:-}") || os=
have() { command -v "$1" >/dev/null 2>&1 || [ -x "/usr/sbin/$1" ] || [ -x "/sbin/$1" ]; }

python_fits() { # a Python of the right age that can make virtual environments
    "$1" -c "import sys, venv, ensurepip
want = lambda text: tuple(map(int, text.split('.')))
sys.exit(not want('$min_python') <= sys.version_info[:2] < want('$max_python'))" 2>/dev/null
}
find_python() {
    local candidate
    for candidate in ${RACKLOOM_PYTHON:-} /usr/bin/python3 /usr/bin/python3.{13,12,11} python3 python3.{13,12,11}; do
        if python_fits "$candidate"; then
            command -v "$candidate"
            return 0
        fi
    done
    return 1
}

needed=() # "what it is:package"
need() { have "$1" || needed+=("$1:$2"); }
need_file() { [ -e "$1" ] || needed+=("$2:$3"); }

list_needed() {
    local distribution_python=python3
    [ "$os" != ubuntu-22.04 ] || distribution_python=python3.11
    needed=()
    find_python >/dev/null || needed+=("Python $min_python or later with venv:$distribution_python $distribution_python-venv")
    need ssh openssh-client
    need ssh-keygen openssh-client
    need git git
    if [ $lab = 1 ]; then
        need podman podman
        # The lab's nodes need runc where the machine still has cgroup v1.
        if [ -f /sys/fs/cgroup/cgroup.controllers ]; then
            have runc || need crun crun
        else
            need runc runc
        fi
        need mmdebstrap mmdebstrap
        need ip iproute2
        need iptables iptables
        need nft nftables
        need zstd zstd
        case $os in
            ubuntu-22.04) need_file /usr/lib/cni/bridge "CNI plugins" containernetworking-plugins ;;
            *) need_file /usr/lib/podman/netavark netavark netavark ;;
        esac
        need_file /usr/share/keyrings/debian-archive-keyring.gpg "Debian's archive keys" debian-archive-keyring
        # On Debian only Ubuntu nodes would want these, so their absence is no error there.
        case $os in
            ubuntu-*) need_file /usr/share/keyrings/ubuntu-archive-keyring.gpg "Ubuntu's archive keys" ubuntu-keyring ;;
        esac
    fi
    if [ $dev = 1 ]; then
        need shellcheck shellcheck
        # Rendered files are read by the programs that they are for.
        need dnsmasq dnsmasq-base
        need visudo sudo
        # Bundles are made of packages and images; BMCs are talked to; disks are written to in files.
        need apt-ftparchive apt-utils
        need skopeo skopeo
        need gpg gpg
        need ipmitool ipmitool
        need sgdisk gdisk
        need unsquashfs squashfs-tools
        # Two of the programs that tests build from their sources are C, or take some in.
        need gcc gcc
        need pkg-config pkg-config
        need_file /usr/include/stdlib.h "C's headers" libc6-dev
    fi
}

# --- A bundle in the place of the network -------------------------------------------------

from_bundle=() # what apt-get is told so that it sees the bundle alone
if [ -n "$bundle" ]; then
    bundle=$(cd "$bundle" 2>/dev/null && pwd -P) || fail "there is no folder ${bundle}" 2
    [ -d "$bundle/apt/$os" ] || fail "the bundle in $bundle has no packages for this system (${os:-unknown})" 2
    for program in python3 ssh-keygen; do
        have $program || fail "$program is needed to verify the bundle, and is not installed" 2
    done
    # The one moment in which packages are taken unsigned: right after every byte was compared with the signed lock.
    say "verifying the bundle in $bundle"
    python3 "$bundle/verify.py" "$bundle" ${fingerprint:+--fingerprint "$fingerprint"} >&2 ||
        fail "the bundle is not to be used"
    scratch=$(mktemp -d)
    trap 'rm -rf "$scratch"' EXIT
    mkdir -p "$scratch/lists/partial"
    suite=$(basename "$bundle/apt/$os/dists"/*)
    echo "deb [trusted=yes] file:$bundle/apt/$os $suite main" >"$scratch/sources.list"
    from_bundle=(-o "Dir::Etc::SourceList=$scratch/sources.list" -o Dir::Etc::SourceParts=/dev/null
        -o "Dir::State::Lists=$scratch/lists" -o APT::Sandbox::User=root)
    export PIP_NO_INDEX=1 PIP_FIND_LINKS=$bundle/wheels
fi

list_needed
if [ ${#needed[@]} -gt 0 ]; then
    case $os in
        debian-12 | debian-13 | ubuntu-22.04 | ubuntu-24.04) known=1 ;;
        *) known=0 ;;
    esac
    if [ $known = 0 ] || ! can_be_root; then
        say "these are missing on this machine (${os:-unknown system}):"
        for item in "${needed[@]}"; do
            say "  ${item%%:*}$([ $known = 0 ] || echo "  (package ${item#*:})")"
        done
        [ $known = 0 ] || fail "install them as root, then run this again" 2
        fail "this system is not one set-up can install on (Debian 12/13, Ubuntu 22.04/24.04): install them, then run this again" 2
    fi
    read -r -a packages <<<"$(printf '%s\n' "${needed[@]#*:}" | tr ' ' '\n' | sort -u | tr '\n' ' ')"
    say "installing packages: ${packages[*]}"
    apt=(env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=300 "${from_bundle[@]}")
    install=("${apt[@]}" install --no-install-recommends)
    log=$root/.cache/setup-apt.log
    # The lists this machine has may be old, or none; fetch them only when they do not do.
    if ! as_root "${install[@]}" "${packages[@]}" </dev/null >"$log" 2>&1; then
        as_root "${apt[@]}" update </dev/null >>"$log" 2>&1 || say "some package sources did not answer; going on with the others"
        if [ "$os" = ubuntu-22.04 ] && ! apt-cache show python3.11 >/dev/null 2>&1; then
            fail "Python 3.11 is in this release's universe component, which is switched off: sudo add-apt-repository universe" 2
        fi
        as_root "${install[@]}" "${packages[@]}" </dev/null >>"$log" 2>&1 || {
            tail -n 15 "$log" >&2
            fail "the packages could not be installed (all of it: $log)"
        }
    fi
    list_needed
    [ ${#needed[@]} -eq 0 ] || fail "still missing after the installation: ${needed[*]%%:*}" 2
fi

# --- The Python environment ---------------------------------------------------------------

python=$(find_python)
stamp=$venv/.rackloom-stamp
digest() { # what an environment depends on: the lock, this script, the interpreter, the place
    { sha256sum <"$1"; sha256sum <"${BASH_SOURCE[0]}"; "$python" -VV; echo "$root $python"; } | sha256sum | cut -d' ' -f1
}
with_run=$(digest "$root/requirements.lock")
with_dev=$(digest "$root/requirements-dev.lock")
now=$(cat "$stamp" 2>/dev/null || true)
if [ "$now" = "$with_dev" ] || { [ $dev = 0 ] && [ "$now" = "$with_run" ]; }; then
    exit 0 # the larger environment serves both
fi

if [ $dev = 1 ]; then lock=requirements-dev.lock done=$with_dev; else lock=requirements.lock done=$with_run; fi
started=$SECONDS
as_owner rm -f "$stamp"
# An environment of another interpreter, or one whose making was cut short, is made anew: a
# package that was being written when it ended may look complete to pip.
which_python() { "$1" -c 'import sys; print(sys.base_prefix, sys.version)' 2>/dev/null; }
unfinished=$venv/.rackloom-unfinished
if [ -e "$unfinished" ] || [ "$(which_python "$venv/bin/python")" != "$(which_python "$python")" ] ||
    ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
    say "making .venv with $("$python" -V)"
    as_owner rm -rf "$venv"
    as_owner mkdir "$venv"
    as_owner touch "$unfinished"
    as_owner "$python" -m venv "$venv"
fi
as_owner touch "$unfinished"
say "installing $(grep -c '==' "$root/$lock") Python packages from $lock"
# Where packages come from is the machine's business (pip.conf, PIP_INDEX_URL, PIP_CERT …);
# what would change where they go, or what is taken, is not.
pip=(env -u PIP_TARGET -u PIP_PREFIX -u PIP_ROOT -u PIP_USER -u PIP_REQUIRE_VIRTUALENV -u PIP_CONSTRAINT
    -u PIP_REQUIREMENT -u PIP_NO_DEPS -u PIP_DRY_RUN -u PIP_PRE -u PIP_UPGRADE -u PYTHONPATH -u PYTHONHOME
    "$venv/bin/python" -m pip --disable-pip-version-check --no-input)
log=$root/.cache/setup-pip.log
if ! as_owner "${pip[@]}" install --quiet --no-compile --require-hashes -r "$root/$lock" >"$log" 2>&1; then
    tail -n 15 "$log" >&2
    fail "the Python packages could not be installed (all of it: $log)"
fi

site=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
say "compiling"
# Ansible starts in a third of the time when its code is compiled. The collections, nine
# tenths of it, are not: only a few of their modules are ever used, and those on the nodes.
as_owner env -u PYTHONDONTWRITEBYTECODE "$venv/bin/python" -m compileall -q -j 0 -x '/ansible_collections/' "$site" \
    >/dev/null 2>&1 || true
as_owner tee "$site/rackloom.pth" <<<"$root/scripts" >/dev/null
as_owner mkdir -p "$venv/collections/ansible_collections/rackloom"
as_owner ln -sfn "$root" "$venv/collections/ansible_collections/rackloom/cluster"
as_owner tee "$venv/bin/rackloom" >/dev/null <<LAUNCHER
#!$venv/bin/python
import sys

from rackloom.cli.main import entry

if __name__ == "__main__":
    sys.exit(entry())
LAUNCHER
as_owner chmod 0755 "$venv/bin/rackloom"
as_owner rm -f "$unfinished"
as_owner tee "$stamp" <<<"$done" >/dev/null
say "ready after $((SECONDS - started)) s: $venv/bin/rackloom"
