#!/bin/sh
# Makes what the other containers start with: secrets, and folders that belong to their users. Runs as root, and ends.
#
#   make-secrets.sh DATA SOCKETS make NAME…     each secret that is not there yet
#   make-secrets.sh DATA SOCKETS rotate NAME…   each secret anew; who reads it has to be started again
#
# A secret is 64 hex digits in DATA/secrets/NAME/value: a folder for each, so that a container is given those that it
# needs and no others. Root and the group strata (7120) may read it. SOCKETS is the folder of Redis' socket.
set -eu
data=$1
sockets=$2
act=$3
shift 3
umask 077
case $act in
  make)
    # Earlier compose files kept secrets, Redis and objects in volumes. New ones beside the old node would lose its images.
    if [ -n "$(ls -A "$data/node" 2>/dev/null)" ] && [ ! -e "$data/secrets/s3-secret-key/value" ]; then
      echo "$data/node holds a node's files, and $data/secrets no secrets: bring them here first (docs/deploy.md, From volumes), or move the folder node away" >&2
      exit 1
    fi
    ;;
  rotate)
    [ $# -gt 0 ] || { echo 'rotate which secrets? token, node-secret, s3-secret-key' >&2; exit 1; }
    for name in "$@"; do
      [ -s "$data/secrets/$name/value" ] || { echo "there is no secret $name" >&2; exit 1; }
    done
    ;;
  *)
    echo "$act: make or rotate" >&2
    exit 1
    ;;
esac
mkdir -p "$data/secrets"
chmod 0700 "$data/secrets"
for name in "$@"; do
  folder=$data/secrets/$name
  mkdir -p "$folder"
  if [ "$act" = rotate ] || [ ! -s "$folder/value" ]; then
    head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \n' > "$folder/.new"
    sync "$folder/.new"
    mv "$folder/.new" "$folder/value"
    echo "$name: made"
  fi
  # A restored backup may have lost its owners.
  chown 0:7120 "$folder" "$folder/value"
  chmod 0640 "$folder/value"
  chmod 0750 "$folder"
done
# USER FOLDER: all of it is that user's, also where a restored backup or the image of another Redis had another.
give() {
  mkdir -p "$2"
  [ "$(stat -c %u "$2")" = "$1" ] || chown -R "$1:7120" "$2"
  chmod 0700 "$2"
}
give 7122 "$data/redis-data"
# A folder of MinIO's drive is a bucket.
mkdir -p "$data/minio/strata"
[ "$(stat -c %u "$data/minio/strata")" = 7121 ] || chown -R 7121:7120 "$data/minio"
give 7121 "$data/minio"
# Redis makes its socket here, and the group connects.
chown 7122:7120 "$sockets"
chmod 0750 "$sockets"
