"""The demo: a local upstream, the real sidecar, and three people who use up their tokens."""
