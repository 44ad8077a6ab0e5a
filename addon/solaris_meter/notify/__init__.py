"""Delivering the outbox: what an alert says, and how it leaves by e-mail, webhook and Apprise.

Modules, from the bottom: `sender` (what all ways out have in common), `message` (an alert as texts, HTML and JSON),
`mail`, `webhook`, `gateway` (Apprise), `outlets` (which of them a channel is), `delivery` (the thread that empties the
outbox), `__main__` (one message to every channel now, for the command line).
"""
