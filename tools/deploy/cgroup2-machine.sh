#!/bin/bash
# usage: cgroup2-machine.sh COMMAND…
#
# Runs a command as root, in the current folder, on a virtual machine that has Debian's kernel and
# cgroups of version 2 alone, with all their controllers: what most hosts have, and this one may not.
# Its root folder is this machine's as it is now. What it writes is kept in memory, and lost.
# The processor is emulated: all takes ten times as long. Needs qemu-system-x86.
set -euo pipefail
[ $# -gt 0 ] || { sed -n '2s/^# //p' "$0" >&2; exit 2; }
tools=$(cd "$(dirname "$0")/../.." && pwd -P)/.tools
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

# The kernel with what is needed here of its modules, kept under a name that has its version.
package=$(apt-cache depends linux-image-amd64 | sed -n 's/^ *Depends: \(linux-image-[0-9].*\)/\1/p' | head -n 1)
version=${package#linux-image-}
kernel=$tools/$package
if [ ! -d "$kernel" ]; then
  modules='9p|9pnet|9pnet_virtio|netfs|fscache|overlay|erofs|loop|virtio[a-z_]*|crc32c_generic|libcrc32c|lz4_decompress'
  (
    cd "$folder"
    apt-get -qq -o APT::Sandbox::User=root download "$package"
    dpkg-deb --fsys-tarfile ./*.deb | tar -x --wildcards './boot/vmlinuz-*' './lib/modules/*/kernel/*' './lib/modules/*/modules.*'
    find lib -name '*.ko' | grep -Ev "/($modules)\.ko$" | xargs rm -f
    busybox depmod -b . "$version"
    mkdir -p "$tools" kept
    mv boot lib kept/
    mv kept "$kernel"
  )
fi

root=$folder/root
mkdir -p "$root"/{bin,proc,sys,dev,lower,upper,new}
cp "$(command -v busybox)" "$root/bin/busybox"
cp -r "$kernel/lib" "$root/"
printf '%q ' "$@" >"$root/command"
pwd -P >"$root/place"
env -0 | tr '\0' '\n' | grep -E '^(PATH|NODE_[A-Z_]+|STRATA_[A-Z_]+)=' >"$root/environment" || true
cat >"$root/init" <<'END'
#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
modprobe -a virtio_pci 9pnet_virtio 9p overlay loop erofs 2>/dev/null
mount -t 9p -o trans=virtio,version=9p2000.L,msize=1048576,cache=loose,ro machine /lower || poweroff -f
layered() { # WHERE PATH
  mkdir -p "/upper/$2" "/upper/$2.work"
  mount -t overlay -o "lowerdir=/lower$3,upperdir=/upper/$2,workdir=/upper/$2.work" overlay "$1"
}
mount -t tmpfs -o size=80% tmpfs /upper
place=$(cat /place)
layered /new root /
# No overlay can lie on an overlay: where tests keep their files.
for path in /tmp /var/tmp /run; do mount -t tmpfs tmpfs /new$path; done
mkdir -p "/new$place"
layered "/new$place" place "$place"
for path in proc sys dev; do mount --move /$path /new/$path; done
mkdir -p /new/dev/pts /new/dev/shm
mount -t devpts devpts /new/dev/pts
mount -t tmpfs tmpfs /new/dev/shm
mount -t cgroup2 cgroup2 /new/sys/fs/cgroup
sed -e 's/ / +/g' -e 's/^/+/' /new/sys/fs/cgroup/cgroup.controllers >/new/sys/fs/cgroup/cgroup.subtree_control
ip link set lo up
hostname machine
{ echo 'set -a'; sed "s/=\(.*\)/='\1'/" /environment; echo "set +a; cd '$place'"; cat /command; } >/new/run/command
echo "--- $(uname -r), $(cat /new/sys/fs/cgroup/cgroup.controllers)"
# The serial line would be a terminal to it.
{ chroot /new bash /run/command </new/dev/null; echo "exit: $?"; } 2>&1 | cat
poweroff -f
END
chmod +x "$root/init"
(cd "$root" && find . | busybox cpio -o -H newc 2>/dev/null | gzip -1) >"$folder/initramfs"

# The serial line is the machine's output; its last line has the exit status.
qemu-system-x86_64 -accel tcg,thread=multi -cpu max -smp 2 -m "${STRATA_MACHINE_MEMORY:-4G}" -nodefaults -no-reboot \
  -nographic -serial mon:stdio -kernel "$kernel/boot/vmlinuz-$version" -initrd "$folder/initramfs" \
  -append 'console=ttyS0 quiet panic=-1 mitigations=off' \
  -device virtio-9p-pci,fsdev=machine,mount_tag=machine \
  -fsdev local,id=machine,path=/,security_model=none,readonly=on,multidevs=remap </dev/null |
  stdbuf -o0 tr -d '\r' | tee "$folder/output"
exit "$(sed -n 's/^exit: //p' "$folder/output" | tail -n 1 | grep . || echo 1)"
