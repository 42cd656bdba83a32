#!/bin/sh
# start.sh: HAProxy, with TLS if there is a certificate. Without one it speaks plain HTTP.
set -eu
certificate=/tls/server.pem
# Plain HTTP where somebody meant TLS would show the token to the network. A link that leads out of the
# container, as certbot's do, does not exist here; a folder that may not be searched looks like an empty one.
if [ -e "$certificate" ]; then
  [ -r "$certificate" ] || { echo "strata-proxy: $certificate cannot be read by group 7120: chgrp 7120, chmod 0640" >&2; exit 1; }
  STRATA_CERTIFICATE=$certificate
elif [ -e /tls ] && ! { [ -d /tls ] && [ -r /tls ] && [ -x /tls ]; }; then
  echo "strata-proxy: the folder tls cannot be read by user 7123, so nobody knows whether it holds a certificate: chmod 0755" >&2
  exit 1
elif [ -n "$(ls -A /tls 2>/dev/null)" ]; then
  echo "strata-proxy: the folder tls holds $(ls -A /tls | head -n 5 | tr '\n' ' ')and no server.pem that can be read: copy certificate, chain and key into that file, not a link, or empty the folder" >&2
  exit 1
fi
export STRATA_CERTIFICATE="${STRATA_CERTIFICATE:-}"
# The machine's address in docker's network: the gateway of the default route, in hex, its bytes reversed.
route='s/^[^\t]*\t00000000\t\(..\)\(..\)\(..\)\(..\)\t.*/0x\4 0x\3 0x\2 0x\1/p'
bridge=$(sed -n "$route" /proc/net/route | head -n 1)
STRATA_BRIDGE=$(printf '%d.%d.%d.%d' ${bridge:-127 0 0 1})
export STRATA_BRIDGE
# A master and a worker: SIGUSR2 takes a new certificate, and no connection is lost.
exec haproxy -W -db -f /etc/haproxy/strata.cfg
