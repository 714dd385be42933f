"""The log of a local run: messages alone, on standard error."""

import logging

from common.telemetry.printable import printable, printable_lines


class PlainFormatter(logging.Formatter):
    """Formats a record as its message, in one line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the message, followed by an exception's traceback."""
        line = printable(record.getMessage())
        if record.exc_info:
            line += "\n" + printable_lines(self.formatException(record.exc_info))
        return line


def configure() -> None:
    """Have all loggers but the service's own write to standard error."""
    handler = logging.StreamHandler()
    handler.setFormatter(PlainFormatter())
    logging.basicConfig(handlers=[handler])
