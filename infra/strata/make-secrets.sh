#!/bin/sh
# make-secrets.sh FOLDER NAME… : makes each secret that is not there yet, 64 hex digits, readable by root and the group that the services run as.
set -eu
folder=$1
shift
for name in "$@"; do
  [ -s "$folder/$name" ] && continue
  head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \n' > "$folder/.$name"
  chown root:strata "$folder/.$name"
  chmod 0640 "$folder/.$name"
  sync "$folder/.$name"
  mv "$folder/.$name" "$folder/$name"
done
# Redis, as a user of its own, makes its socket in a folder that the services share.
chmod 1777 /run/redis
