"""Runs one command and writes down what it took: `python -I -S launcher.py OUT SECONDS COMMAND...`.

A program of its own, and a small one, because Linux counts the memory that a process had at the moment it
started another as the other's peak: started from a large process, every small program would look large. `run`
starts this.

OUT gets one line: CPU seconds, wall-clock seconds, peak memory in bytes and the exit code (negative for a
signal, as for a command killed because it was not done after SECONDS).
"""

import os
import signal
import sys
import time


def main() -> None:
    out, seconds, *command = sys.argv[1:]
    started = time.perf_counter()
    try:
        child = os.posix_spawnp(command[0], command, os.environ)
    except OSError as error:
        sys.exit(f"{command[0]}: cannot be started: {error.strerror}")
    signal.signal(signal.SIGALRM, lambda *_: os.kill(child, signal.SIGKILL))
    signal.alarm(int(seconds))
    _, status, usage = os.wait4(child, 0)
    signal.alarm(0)
    wall = time.perf_counter() - started
    unit = 1 if sys.platform == "darwin" else 1024
    code = os.waitstatus_to_exitcode(status)
    with open(out, "w") as file:  # noqa: PTH123 (pathlib would be a third of this program's memory)
        file.write(f"{usage.ru_utime + usage.ru_stime} {wall} {usage.ru_maxrss * unit} {code}\n")


if __name__ == "__main__":
    main()
