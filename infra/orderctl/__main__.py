"""`python -m infra.orderctl`."""

import sys
import traceback
from types import TracebackType

from common.telemetry.printable import printable_lines
from infra.orderctl import main


def _print_defect(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """Print a traceback whose message may be a stranger's."""
    text = "".join(traceback.format_exception(kind, error, trace))
    print(f"orderctl: a defect:\n{printable_lines(text)}", file=sys.stderr)


sys.excepthook = _print_defect
sys.exit(main())
