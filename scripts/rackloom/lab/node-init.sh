#!/bin/sh
# The first program of a lab node: what firmware, disk and installer give a real server,
# then systemd. Runs again at every power-on, so each step looks before it acts.
set -eu

# The engine mounts its own files over these; a server has plain ones it may replace.
name=$(cat /proc/sys/kernel/hostname)
for file in /etc/hostname /etc/hosts /etc/resolv.conf; do
    umount "$file" 2>/dev/null || true
done
[ -s /etc/hostname ] || { rm -f /etc/hostname && echo "$name" >/etc/hostname; }
grep -qs localhost /etc/hosts || printf '127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost\n' >>/etc/hosts
grep -qsw "$name" /etc/hosts || printf '127.0.1.1\t%s\n' "$name" >>/etc/hosts
if [ ! -s /etc/resolv.conf ]; then
    rm -f /etc/resolv.conf
    for server in ${RACKLOOM_RESOLVERS:-}; do
        echo "nameserver $server"
    done >/etc/resolv.conf
fi

# The installer let one key in, and every server has host keys of its own.
if [ ! -e /root/.ssh/authorized_keys ]; then
    mkdir -p /root/.ssh
    chmod 0700 /root/.ssh
    (umask 077 && echo "${RACKLOOM_ADMIN_KEY:-}" >/root/.ssh/authorized_keys)
fi
ssh-keygen -A >/dev/null

# Under cgroup v1 the engine lays the host's own systemd hierarchy over the node's, and all nodes
# would keep their units in the same groups. It is taken away; the node's own lies beneath.
hierarchy=/sys/fs/cgroup/systemd
foreign() { # mountinfo's fourth field is the part of a file system that is mounted, the fifth where
    awk -v at="$hierarchy" '$5 == at && $4 != "/" { found = 1 } END { exit !found }' /proc/self/mountinfo
}
while foreign; do
    umount -l "$hierarchy" || break
done

# A container engine and a kubelet find mounts shared, as on every server, and a place to keep what the kernel runs for them.
mount --make-rshared /
grep -qs ' /sys/fs/bpf ' /proc/mounts || mount -t bpf bpf /sys/fs/bpf 2>/dev/null || true

# GPUs are device files. Their major number belongs to no driver, so a job that is let
# through gets ENXIO from open(), one that is kept out gets EPERM.
gpu=0
rm -f /dev/nvidia[0-9]*
while [ "$gpu" -lt "${RACKLOOM_GPUS:-0}" ]; do
    mknod -m 0666 "/dev/nvidia$gpu" c 120 "$gpu"
    gpu=$((gpu + 1))
done

exec env -i container="${container:-podman}" PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    /sbin/init "$@"
