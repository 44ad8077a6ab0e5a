"""The mitmproxy edge: flows in, values out.

A request runs through it in a straight line: `route` finds the upstream of a base-URL request, `identity` says who
calls, `metered` opens the call, hands the answer to it piece by piece, and closes it. `passthrough` leaves what is not
ours undecrypted. `addons` builds all of these from the settings.
"""
