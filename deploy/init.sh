#!/bin/sh
# One-shot, before everything else: makes what the others need, and is harmless to repeat. As root it only hands the
# volumes that are named to the users that write into them; otherwise it makes the certificate authority and the ledger.
#
#   solaris-init own UID:GID FOLDER…   fresh volumes belong to root; what is inside is left alone
#   solaris-init                       as the sidecar's user
set -eu
if [ "${1:-}" = own ]; then
	owner=$2
	shift 2
	chown "$owner" "$@"
	exit
fi
solaris-cli ca create --confdir "${MITMPROXY_CONFDIR:-/ca}" --publish /ca-public/solaris-ca.pem
solaris-cli db migrate
