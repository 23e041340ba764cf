"""Talking to the harness: what goes over one connection to a guest (docs/guest-protocol.md)."""
