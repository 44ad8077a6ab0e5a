#!/bin/sh
# Transparent use: whatever shares this network namespace reaches the internet through the sidecar, or not at all.
#
# Run as root with NET_ADMIN, SETUID, SETGID and SETPCAP. It sets up the rules and becomes the command that is given to
# it, as the sidecar's user and without any capability. Running it again replaces the rules in one transaction.
#
#   SIDECAR_UID   whose connections go out as they are (default 10001)
#   PORT          where the sidecar listens for redirected connections (default 8443)
#   UPLINK        the interface that leads out (default: that of the default route)
#   ALLOW         networks behind it that may be reached directly, such as a cluster's: "10.0.0.0/8 fd00::/8"
set -eu
uid=${SIDECAR_UID:-10001}
port=${PORT:-8443}
uplink=${UPLINK:-$(sed -n 's/^\([^[:space:]]*\)[[:space:]]00000000[[:space:]].*/\1/p' /proc/net/route | head -n 1)}
[ -n "$uplink" ] || { echo "solaris-transparent: no default route, so nothing leads out; set UPLINK" >&2; exit 1; }

# Name servers, and what ALLOW names: rules for each address family.
direct=
for server in $(sed -n 's/^nameserver[[:space:]]*\([^[:space:]%]*\).*/\1/p' /etc/resolv.conf); do
	case $server in *:*) family=ip6 ;; *) family=ip ;; esac
	direct="$direct
		$family daddr $server th dport 53 accept"
done
redirected_not=
for network in ${ALLOW:-}; do
	case $network in *:*) family=ip6 ;; *) family=ip ;; esac
	direct="$direct
		$family daddr $network accept"
	redirected_not="$redirected_not
		$family daddr $network accept"
done

# The first line makes the second one harmless where there is no such table yet.
nft -f - <<RULES
table inet solaris
delete table inet solaris
table inet solaris {
	chain redirected {
		type nat hook output priority -100; policy accept;
		meta skuid $uid accept
		oifname != "$uplink" accept$redirected_not
		tcp dport { 80, 443 } redirect to :$port
	}
	chain leaving {
		type filter hook output priority 0; policy accept;
		# The mark is for what the kernel sends for a connection after its socket is gone.
		meta skuid $uid ct mark set 0x534d accept
		ct mark 0x534d accept
		# What was redirected goes to this machine itself by now, and mitmproxy's and published ports' answers go back.
		fib daddr type local accept
		ct state established,related ct direction reply accept
		# The chat network: MongoDB, search, and what else has no way out itself.
		oifname != "$uplink" accept$direct
		# Docker's own resolver asks from in here, as root.
		meta skuid 0 th dport 53 accept
		# Without these IPv6 finds no neighbour.
		icmpv6 type { nd-router-solicit, nd-neighbor-solicit, nd-neighbor-advert, mld-listener-report, mld2-listener-report } accept
		# QUIC among the rest: browsers and SDKs fall back to TLS over TCP at once when it is refused.
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
