"""What all tests share: what they start hears Ctrl-C, also where a shell runs them in the background, deaf to it."""

import signal


def pytest_configure() -> None:
    """What is ignored here, every process that a test starts would ignore, too."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
