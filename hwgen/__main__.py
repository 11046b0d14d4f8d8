"""The program ``hwgen``, also as ``python -m hwgen``: ready to be stopped before the rest is imported, which takes a
second."""
import os
import signal
import sys

__all__ = ["main"]

_WORDS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated", signal.SIGHUP: "terminated"}


def _stop(number, _):
    """End at once: nothing is under way yet, and what is raised in an import does not always get out of it."""
    try:
        os.write(2, f"hwgen: {_WORDS[number]}\n".encode())
    finally:
        os._exit(128 + number)


def main():
    for number in _WORDS:
        if signal.getsignal(number) is not signal.SIG_IGN:      # as a shell's background jobs and nohup have it
            signal.signal(number, _stop)
    from .lib.streams import open_streams
    open_streams()
    from .cli import main as run
    return run()


if __name__ == "__main__":
    sys.exit(main())
