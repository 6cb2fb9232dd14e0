"""Live sources: each runs in a thread of its own, and gives what it receives to an `Inlet` of `adapters/intake.py`."""
