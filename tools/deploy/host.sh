#!/bin/bash
# usage: host.sh FOLDER
#
# A host in namespaces of its own, with Docker's engine on it. Its processes, mounts, cgroups and
# network are apart from the machine's, so that its PID 1, /var/lib, /run, /proc/1/ns/net and
# /sys/fs/cgroup are what the containers on it see as the host's. All of them end with PID 1.
#
# FOLDER/var-lib is the host's /var/lib, FOLDER/log the engine's log; all else is the machine's.
# With STRATA_HOST_CGROUP2=1 it shows cgroups of version 2 alone, also where the machine has both:
# without the controllers, then, that the machine has in version 1.
# Its one interface is host0. slirp4netns takes what it sends and makes connections of the machine's
# of it: builds reach package registries, and the machine's own network is as it was.
set -euo pipefail
folder=$1

# A folder for each hierarchy that the machine has, below this process's own.
join_cgroups() {
  local hierarchies line id controllers path name point here
  # At once: the file changes with each folder that is joined.
  mapfile -t hierarchies </proc/self/cgroup
  for line in "${hierarchies[@]}"; do
    IFS=: read -r id controllers path <<<"$line"
    name=${controllers#name=}
    point=/sys/fs/cgroup/${name:-unified}
    [ -d "$point" ] || point=/sys/fs/cgroup
    here=$point${path%/}/strata-host${folder//\//-}
    mkdir -p "$here"
    if [ "$name" = cpuset ]; then
      cat "$here/../cpuset.cpus" >"$here/cpuset.cpus"
      cat "$here/../cpuset.mems" >"$here/cpuset.mems"
    fi
    echo $$ >"$here/cgroup.procs"
    echo "$here" >>"$folder/cgroups"
  done
}

mount_cgroups() {
  local id controllers path name
  if [ -n "${STRATA_HOST_CGROUP2-}" ] || ! grep -qv '^0:' /proc/self/cgroup; then
    mount -t cgroup2 cgroup2 /sys/fs/cgroup
    # Controllers can be handed down only from a cgroup without processes.
    mkdir -p /sys/fs/cgroup/init
    echo $$ >/sys/fs/cgroup/init/cgroup.procs
    sed -e 's/ / +/g' -e 's/^/+/' </sys/fs/cgroup/cgroup.controllers >/sys/fs/cgroup/cgroup.subtree_control
    return
  fi
  mount -t tmpfs -o mode=755 tmpfs /sys/fs/cgroup
  while IFS=: read -r id controllers path; do
    name=${controllers#name=}
    mkdir "/sys/fs/cgroup/${name:-unified}"
    case $controllers in
      '') mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified ;;
      name=*) mount -t cgroup -o "none,$controllers" cgroup "/sys/fs/cgroup/$name" ;;
      *) mount -t cgroup -o "$controllers" cgroup "/sys/fs/cgroup/$name" ;;
    esac
  done </proc/self/cgroup
}

# docker 20.10 gives a privileged container every capability that the kernel knows. If this machine's
# root lacks one, as in a container, runc refuses them all: this runc takes those out first.
configure_engine() {
  local name lacks=()
  for name in $(comm -23 <(setpriv --list-caps | sort) \
    <(setpriv --dump | sed -n 's/^Capability bounding set: //p' | tr , '\n' | sort)); do
    name=\"CAP_${name^^}\"
    lacks+=(-e "s/,$name//g" -e "s/$name,//g" -e "s/$name//g")
  done
  {
    echo '#!/bin/bash'
    echo 'previous='
    echo 'for argument; do'
    echo '  case $previous in --bundle) file=$argument/config.json ;; --process) file=$argument ;; *) file= ;; esac'
    echo "  [ ! -f \"\$file\" ] || sed -i $(printf '%q ' -e '' "${lacks[@]}") \"\$file\""
    echo '  previous=$argument'
    echo 'done'
    echo 'exec runc "$@"'
  } >"$folder/runc"
  chmod +x "$folder/runc"
  echo "{\"runtimes\": {\"host\": {\"path\": \"$folder/runc\"}}, \"default-runtime\": \"host\"}" >"$folder/daemon.json"
}

case ${2-} in
  '')
    exec {machine}</proc/self/ns/net
    exec unshare --pid --fork --kill-child --mount --uts --ipc --net -- "$0" "$folder" inside "$machine"
    ;;
  inside)
    # Only this process, not the one that waits for it: version 2 hands no controllers down from a
    # cgroup that has a process, and this one moves on.
    join_cgroups
    exec unshare --cgroup -- "$0" "$folder" joined "$3"
    ;;
esac
machine=$3

mount --make-rprivate /
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount_cgroups
mkdir -p "$folder/var-lib"
mount --bind "$folder/var-lib" /var/lib
mount -t tmpfs -o mode=755 tmpfs /run
# As systemd leaves it: what is mounted on the host can be seen in containers that ask for it.
mount --make-rshared /
hostname strata-host
configure_engine
ip link set lo up
# In the machine's network, and a process of this host's: it ends with it.
nsenter --net="/proc/self/fd/$machine" \
  slirp4netns --configure --mtu=65520 --disable-host-loopback --netns-type=path /proc/1/ns/net host0 >>"$folder/log" 2>&1 &
exec {machine}<&-
until ip -4 route show default | grep -q host0; do
  kill -0 $! || exit 1
  sleep 0.1
done
unset TMPDIR
stopping=
trap 'stopping=1; kill -TERM "$engine"' TERM
while [ -z "$stopping" ]; do
  dockerd --host unix:///run/docker.sock --config-file "$folder/daemon.json" >>"$folder/log" 2>&1 &
  engine=$!
  # A signal ends `wait` early.
  while kill -0 "$engine" 2>/dev/null; do wait "$engine" || true; done
done
