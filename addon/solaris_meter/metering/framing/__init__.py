"""How a stream of bytes is cut into events: one module per framing, all behind `framing.Framing`."""
