"""What a database error means: one table by SQLSTATE."""

import enum

import pg8000.dbapi
from sqlalchemy.exc import DBAPIError


class Meaning(enum.Enum):
    """What has to be done about an error."""

    UNAVAILABLE = "try again later, on another connection"
    BUSY = "try again"
    NOT_SET_UP = "an operator has to do something"
    DEFECT = "a programmer has to"


# An SQLSTATE or how it begins; the first that fits counts.
_MEANINGS = {
    "53300": Meaning.BUSY,  # no connection left, for anybody or for this user
    "55P03": Meaning.BUSY,  # lock time-out
    "40P01": Meaning.BUSY,  # deadlock
    "40001": Meaning.BUSY,  # serialization failure
    "57014": Meaning.BUSY,  # statement time-out
    "08": Meaning.UNAVAILABLE,  # connection trouble
    "25006": Meaning.UNAVAILABLE,  # read only: a standby, or a primary that was one
    "28": Meaning.UNAVAILABLE,  # refuses this login
    "3D": Meaning.UNAVAILABLE,  # no such database
    "53": Meaning.UNAVAILABLE,  # out of space, memory …
    "55000": Meaning.UNAVAILABLE,  # not in a state to do this
    "57P": Meaning.UNAVAILABLE,  # starting, shutting down
    "58": Meaning.UNAVAILABLE,  # the system below
    "26000": Meaning.UNAVAILABLE,  # what was prepared here is not: another's session
    "42P05": Meaning.UNAVAILABLE,
    "42P01": Meaning.NOT_SET_UP,  # no such table
    "42703": Meaning.NOT_SET_UP,  # no such column
    "42883": Meaning.NOT_SET_UP,  # no such function
    "42501": Meaning.NOT_SET_UP,  # not granted
    "3F000": Meaning.NOT_SET_UP,  # no such schema
}
_NOT_GRANTED = "42501"
_FATAL = ("FATAL", "PANIC")  # the server has ended the session


def meaning(error: BaseException) -> Meaning:
    """Return what an error of pg8000's, or of the network, means."""
    if isinstance(error, pg8000.dbapi.DatabaseError):
        state = sql_state(error)
        for beginning, found in _MEANINGS.items():
            if state.startswith(beginning):
                return found
        is_over = _field(error, "V") in _FATAL or is_plan_stale(error)
        return Meaning.UNAVAILABLE if is_over else Meaning.DEFECT
    is_cut = isinstance(error, OSError | pg8000.dbapi.InterfaceError)
    return Meaning.UNAVAILABLE if is_cut else Meaning.DEFECT


def is_servers(error: BaseException) -> bool:
    """Return whether the server raised this, and waits for the next statement."""
    return isinstance(error, pg8000.dbapi.DatabaseError)


def remedy(error: BaseException) -> str:
    """Return what an operator has to run where an error means NOT_SET_UP."""
    is_grant = sql_state(error) == _NOT_GRANTED
    return "orderctl migrate --grant-to ROLE" if is_grant else "orderctl migrate"


def sql_state(error: BaseException) -> str:
    """Return the five characters by which the server names an error, '' for none."""
    return _field(error, "C")


def reason(error: BaseException) -> str:
    """Return what the server, or the network, says of an error."""
    cause = error.__cause__ or error
    return _field(error, "M") or str(cause) or type(cause).__name__


def violated_constraint(error: BaseException) -> str:
    """Return the name of the constraint that an error is about, ''."""
    return _field(error, "n")


def is_waiting_for(error: BaseException, table: str) -> bool:
    """Return whether a lock time-out came from a row of this table or of its indexes.

    A wait for a whole table, as a migration may cause it, has no such context.
    """
    return f'"{table}' in _field(error, "W")


def is_plan_stale(error: BaseException) -> bool:
    """Return whether a prepared statement's result has other columns now."""
    return sql_state(error) == "0A000" and _field(error, "R") == "RevalidateCachedQuery"


def _field(error: BaseException | None, key: str) -> str:
    """Return a field of the server's error that `error` is, wraps, or comes from."""
    while error is not None:
        if isinstance(error, DBAPIError):
            error = error.orig
        if isinstance(error, pg8000.dbapi.DatabaseError):
            fields = error.args[0] if error.args else None
            return str(fields.get(key, "")) if isinstance(fields, dict) else ""
        error = error.__cause__ if error is not None else None
    return ""
