"""Solaris Meter: per-user token metering, balances and limits between LibreChat and the model APIs."""

__version__ = "0.1.0"
