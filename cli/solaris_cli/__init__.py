"""The command line of Solaris Meter."""
