#!/bin/sh
# Transparent use: whatever shares this network namespace reaches the internet through the sidecar, or not at all.
#
# Run as root with NET_ADMIN, SETUID, SETGID and SETPCAP. It sets up the rules and becomes the command that is given to
# it, as the sidecar's user and without any capability. Running it again replaces the rules in one transaction.
#
#   SIDECAR_UID   whose connections go out as they are (default 10001)
#   PORT          where the sidecar listens for redirected connections (default 8443)
#   ALLOW         networks that may be reached directly besides those without a way out, such as a cluster's:
#                 "10.0.0.0/8 fd00::/8"
set -eu
uid=${SIDECAR_UID:-10001}
port=${PORT:-8443}

# Interfaces with a default route lead out. Of the others the networks they are in are reachable directly (MongoDB,
# search); routes that go on from there are not.
uplinks=' '
while read -r name target _; do
	case $target in 00000000) uplinks="$uplinks$name " ;; esac
done </proc/net/route
if [ -r /proc/net/ipv6_route ]; then
	while read -r target length _ _ _ _ _ _ _ name; do
		case "$target $length $name" in *" lo") ;; 00000000000000000000000000000000\ 00\ *) uplinks="$uplinks$name " ;; esac
	done </proc/net/ipv6_route
fi
[ "$uplinks" != ' ' ] || { echo "solaris-transparent: no default route, so nothing leads out of here" >&2; exit 1; }

dotted() { # an address as /proc/net/route writes it: hexadecimal, in the byte order of the machine (little-endian)
	printf '%d.%d.%d.%d' "0x$(echo "$1" | cut -c7-8)" "0x$(echo "$1" | cut -c5-6)" \
		"0x$(echo "$1" | cut -c3-4)" "0x$(echo "$1" | cut -c1-2)"
}

direct=
while read -r name target gateway _ _ _ _ mask _; do
	case "$name $uplinks" in Iface\ *) continue ;; esac
	case $uplinks in *" $name "*) continue ;; esac
	[ "$gateway" = 00000000 ] || continue
	direct="$direct
		oifname \"$name\" ip daddr & $(dotted "$mask") == $(dotted "$target") accept"
done </proc/net/route
if [ -r /proc/net/ipv6_route ]; then
	while read -r target length _ _ gateway _ _ _ _ name; do
		case "$uplinks lo " in *" $name "*) continue ;; esac
		case "$target $length" in ff* | fe80* | *\ 80) continue ;; esac # multicast, the link, and addresses of its own
		[ "$gateway" = 00000000000000000000000000000000 ] || continue
		direct="$direct
		oifname \"$name\" ip6 daddr $(echo "$target" | sed 's/..../&:/g; s/:$//')/$(printf %d "0x$length") accept"
	done </proc/net/ipv6_route
fi
for network in ${ALLOW:-}; do
	case $network in *:*) family=ip6 ;; *) family=ip ;; esac
	direct="$direct
		$family daddr $network accept"
done

names=
for server in $(sed -n 's/^nameserver[[:space:]]*\([^[:space:]%]*\).*/\1/p' /etc/resolv.conf); do
	case $server in *:*) family=ip6 ;; *) family=ip ;; esac
	names="$names
		$family daddr $server th dport 53 accept"
done

# The first line makes the second one harmless where there is no such table yet.
nft -f - <<RULES
table inet solaris
delete table inet solaris
table inet solaris {
	chain redirected {
		type nat hook output priority -100; policy accept;
		meta skuid $uid accept
		fib daddr type local accept$direct
		tcp dport { 80, 443 } redirect to :$port
	}
	chain leaving {
		type filter hook output priority 0; policy accept;
		# The mark is for what the kernel sends for a connection after its socket is gone.
		meta skuid $uid ct mark set 0x534d accept
		ct mark 0x534d accept
		# What was redirected goes to this machine itself by now, and answers of published ports go back.
		oifname "lo" accept
		fib daddr type local accept
		ct state established,related ct direction reply accept$direct$names
		# Docker's own resolver asks from in here, as root.
		meta skuid 0 th dport 53 accept
		# Without these IPv6 finds no neighbour.
		icmpv6 type { nd-router-solicit, nd-neighbor-solicit, nd-neighbor-advert, mld-listener-report, mld2-listener-report } accept
		# QUIC among the rest: clients fall back to TLS over TCP at once when it is refused.
		meta l4proto tcp reject with tcp reset
		reject with icmpx admin-prohibited
	}
	chain arriving {
		type filter hook input priority 0; policy accept;
		# Only what was redirected may speak to the transparent listener.
		iifname != "lo" tcp dport $port drop
	}
}
RULES
exec setpriv --reuid "$uid" --regid "$uid" --clear-groups --inh-caps=-all --ambient-caps=-all --bounding-set=-all \
	--no-new-privs -- "$@"
