"""Run a script that must not outlive its parent: `python -m infra.local.child`.

Standard input is a pipe that is never written to; its end is the signal to stop.
"""

import os
import runpy
import signal
import sys
import threading


def main() -> None:
    """Run the script named first as if it had been started by itself."""
    threading.Thread(target=_stop_with_parent, daemon=True).start()
    sys.argv = sys.argv[1:]
    runpy.run_path(sys.argv[0], run_name="__main__")


def _stop_with_parent() -> None:
    sys.stdin.buffer.read()
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main()
