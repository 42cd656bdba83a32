#!/bin/sh
# start.sh: HAProxy, with TLS if there is a certificate. Without one it speaks plain HTTP.
set -eu
certificate=/tls/server.pem
# Plain HTTP where somebody meant TLS would show the token to the network. A link that leads out of the
# container, as certbot's do, does not exist here.
if [ ! -e "$certificate" ] && [ -n "$(ls -A /tls 2>/dev/null)" ]; then
  echo "strata-proxy: the folder tls holds $(ls -A /tls | head -n 5 | tr '\n' ' ')and no server.pem that can be read: copy certificate, chain and key into that file, not a link, or empty the folder" >&2
  exit 1
fi
if [ -e "$certificate" ]; then
  [ -r "$certificate" ] || { echo "strata-proxy: $certificate cannot be read by group 7120: chgrp 7120, chmod 0640" >&2; exit 1; }
  STRATA_CERTIFICATE=$certificate
fi
export STRATA_CERTIFICATE="${STRATA_CERTIFICATE:-}"
# A master and a worker: SIGUSR2 takes a new certificate, and no connection is lost.
exec haproxy -W -db -f /etc/haproxy/strata.cfg
