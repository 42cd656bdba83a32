#!/bin/sh
# start.sh: HAProxy, with TLS if there is a certificate. Without one it speaks plain HTTP.
set -eu
certificate=/tls/server.pem
if [ -e "$certificate" ]; then
  [ -r "$certificate" ] || { echo "strata-proxy: $certificate cannot be read by group 7120: chgrp 7120, chmod 0640" >&2; exit 1; }
  STRATA_CERTIFICATE=$certificate
fi
export STRATA_CERTIFICATE="${STRATA_CERTIFICATE:-}"
# A master and a worker: SIGUSR2 takes a new certificate, and no connection is lost.
exec haproxy -W -db -f /etc/haproxy/strata.cfg
