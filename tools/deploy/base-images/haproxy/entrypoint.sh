#!/bin/sh
# As the entrypoint of HAProxy's own image: a worker below a master that signals reach.
set -e
case ${1-} in -*) set -- haproxy "$@" ;; esac
if [ "$1" = haproxy ]; then
  shift
  set -- haproxy -W -db "$@"
fi
exec "$@"
