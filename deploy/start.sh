#!/bin/sh
# Starts the sidecar in its container: mitmdump, or mitmweb where the profile `inspect` is on.
#
#   LISTEN        HOST:PORT for base URLs and forward-proxy requests alike (default 0.0.0.0:8080)
#   MODES         mitmproxy's own listeners instead, such as "transparent@8443 regular@8080"
#   PROFILES      compose's COMPOSE_PROFILES
#   NAMESPACE     a file that tells who shares its network which namespace is the right one (compose.transparent.yaml)
#   UPSTREAM_CA   a file of certificates by which upstreams are verified, instead of the public ones
set -eu
[ -z "${NAMESPACE:-}" ] || readlink /proc/self/ns/net >"$NAMESPACE"
confdir=${MITMPROXY_CONFDIR:-/ca}
set -- --set confdir="$confdir"
[ -z "${UPSTREAM_CA:-}" ] || set -- "$@" --set ssl_verify_upstream_trusted_ca="$UPSTREAM_CA"
web=
case ",${PROFILES:-}," in *,inspect,*)
	web=--web
	set -- "$@" --web-host 0.0.0.0 --web-port 8081
	;;
esac
if [ -n "${MODES:-}" ]; then
	listen=
	for mode in $MODES; do listen="$listen --mode $mode"; done
else
	listen="--listen ${LISTEN:-0.0.0.0:8080}"
fi
# shellcheck disable=SC2086  # words on purpose
exec solaris-cli run $web $listen -- "$@"
