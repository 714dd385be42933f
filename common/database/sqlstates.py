"""What a database error means: one table by SQLSTATE."""

import enum

import pg8000.dbapi
from sqlalchemy.exc import DBAPIError


class Meaning(enum.Enum):
    """What to do about an error."""

    UNAVAILABLE = "try again later, on another connection"
    BUSY = "try again"
    NOT_SET_UP = "an operator has to set up the database"
    DEFECT = "a defect of this service"


# By SQLSTATE or its beginning; the first match counts.
_MEANINGS = {
    "53300": Meaning.BUSY,  # too many connections, of all users or of this one
    "55P03": Meaning.BUSY,  # lock timeout
    "40P01": Meaning.BUSY,  # deadlock
    "40001": Meaning.BUSY,  # serialization failure
    "57014": Meaning.BUSY,  # statement timeout
    "08": Meaning.UNAVAILABLE,  # connection failure
    "25006": Meaning.UNAVAILABLE,  # read only: a standby, or demoted to one
    "28": Meaning.UNAVAILABLE,  # login refused
    "3D": Meaning.UNAVAILABLE,  # no such database
    "53": Meaning.UNAVAILABLE,  # out of space, memory …
    "55000": Meaning.UNAVAILABLE,  # not in a state to do this
    "57P": Meaning.UNAVAILABLE,  # starting, shutting down
    "58": Meaning.UNAVAILABLE,  # the server's operating system
    "26000": Meaning.UNAVAILABLE,  # no such prepared statement: a pooler's session
    "42P05": Meaning.UNAVAILABLE,  # duplicate prepared statement: the same
    "42P01": Meaning.NOT_SET_UP,  # no such table
    "42703": Meaning.NOT_SET_UP,  # no such column
    "42883": Meaning.NOT_SET_UP,  # no such function
    "42501": Meaning.NOT_SET_UP,  # not granted
    "3F000": Meaning.NOT_SET_UP,  # no such schema
}
_NOT_GRANTED = "42501"
_FATAL = ("FATAL", "PANIC")  # the server has ended the session


def meaning(error: BaseException) -> Meaning:
    """Return the meaning of an error of pg8000's or of the network."""
    if isinstance(error, pg8000.dbapi.DatabaseError):
        state = sql_state(error)
        for prefix, known in _MEANINGS.items():
            if state.startswith(prefix):
                return known
        is_unusable = _field(error, "V") in _FATAL or is_plan_stale(error)
        return Meaning.UNAVAILABLE if is_unusable else Meaning.DEFECT
    is_disconnect = isinstance(error, OSError | pg8000.dbapi.InterfaceError)
    return Meaning.UNAVAILABLE if is_disconnect else Meaning.DEFECT


def is_from_server(error: BaseException) -> bool:
    """Return whether the server raised this, so that the connection is still usable."""
    return isinstance(error, pg8000.dbapi.DatabaseError)


def is_not_granted(error: BaseException) -> bool:
    """Return whether the login lacks a right."""
    return sql_state(error) == _NOT_GRANTED


def remedy(error: BaseException) -> str:
    """Return the command to run after an error that means NOT_SET_UP."""
    grant = " --grant-to FUNCTION=ROLE" if is_not_granted(error) else ""
    return f"orderctl migrate{grant}"


def sql_state(error: BaseException) -> str:
    """Return the SQLSTATE of the server's error, '' if there is none."""
    return _field(error, "C")


def reason(error: BaseException) -> str:
    """Return the message of the server's or the network's error."""
    cause = error.__cause__ or error
    return _field(error, "M") or str(cause) or type(cause).__name__


def violated_constraint(error: BaseException) -> str:
    """Return the name of the violated constraint, '' if there is none."""
    return _field(error, "n")


def detail(error: BaseException) -> str:
    """Return the detail of the server's error, '' if there is none."""
    return _field(error, "D")


def is_waiting_for(error: BaseException, table: str) -> bool:
    """Return whether a lock timeout was for a row of this table or its indexes.

    An error about a lock on the whole table, such as a migration's, has no context.
    """
    return f'"{table}' in _field(error, "W")


def is_plan_stale(error: BaseException) -> bool:
    """Return whether the columns of a prepared statement's result have changed."""
    return sql_state(error) == "0A000" and _field(error, "R") == "RevalidateCachedQuery"


def _field(error: BaseException | None, key: str) -> str:
    """Return a field of the server's error that `error` is, wraps or was caused by."""
    while error is not None:
        if isinstance(error, DBAPIError):
            error = error.orig
        if isinstance(error, pg8000.dbapi.DatabaseError):
            fields = error.args[0] if error.args else None
            return str(fields.get(key, "")) if isinstance(fields, dict) else ""
        error = error.__cause__ if error is not None else None
    return ""
