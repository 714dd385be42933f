"""Why Cloud SQL cannot be reached, as an operator is told: what is wrong, what to do.

Lives here: a line for each kind of error of Google's connector, of the dial and of the
login. Not here: who is told (`cloud_sql.py`). Surprise: no error's own text is passed
on where it comes from a request that carried a token.
"""

import ssl

import pg8000.dbapi
from google.auth.exceptions import (
    DefaultCredentialsError,
    GoogleAuthError,
    RefreshError,
)
from google.cloud.sql.connector.exceptions import (
    CloudSQLIPTypeError,
    IncompatibleDriverError,
)

from common.database_errors import sql_state
from common.endpoints import CloudSql

_API = "the Cloud SQL Admin API"
_SOON = "it is asked again soon"
_NAME = "check CLOUD_SQL_CONNECTION_NAME"
_REFUSALS = {
    400: "it takes the request for malformed: check CLOUD_SQL_CONNECTION_NAME,"
    " and that the instance allows IAM logins",
    401: "it does not take the credentials: check the service account and its key",
    403: "enable sqladmin.googleapis.com, and give the service account"
    " roles/cloudsql.client, for IAM logins also roles/cloudsql.instanceUser",
    404: f"there is no such instance: {_NAME}",
    429: f"it has been asked too often; {_SOON}",
}
# The first that fits.
_UNANSWERED: dict[type[Exception], str] = {
    DefaultCredentialsError: "there are no Google credentials: run as a service"
    " account, or set GOOGLE_APPLICATION_CREDENTIALS to its key's file",
    RefreshError: "Google gives no token for the credentials: check that the service"
    " account and its key exist and are not disabled",
    GoogleAuthError: "no token could be had ({error}); " + _SOON,
    CloudSQLIPTypeError: "the instance {instance} has no {ip_type} address:"
    " give it one, or set CLOUD_SQL_IP_TYPE to one it has",
    IncompatibleDriverError: "the instance {instance} is not PostgreSQL",
    TimeoutError: _API + " did not answer in time; " + _SOON,
    Exception: _API + " failed ({error}) for {instance}; " + _SOON,
}
_NO_ANSWER = {
    "private": "the process must be in the instance's VPC network (direct VPC egress)",
    "public": "the instance must have a public address that is not blocked",
    "psc": "the network must have a Private Service Connect endpoint for it",
}


class CloudSqlError(pg8000.dbapi.InterfaceError):  # type: ignore[misc]
    """No connection could be made; the message says why and what to do, no secret."""


def asking(error: Exception, database: CloudSql) -> str:
    """Answer why the connector does not know the way to the instance."""
    status = getattr(error, "status", None)  # of a refusal, in aiohttp's words
    if isinstance(status, int):
        meaning = _REFUSALS.get(status, _SOON)
        return f"{_API} answers {status} for {database.instance}: {meaning}"
    if isinstance(error, ValueError) and "region" in str(error):
        return f"the instance {database.instance} is in another region: {_NAME}"
    for kind, template in _UNANSWERED.items():
        if isinstance(error, kind):
            return template.format(
                instance=database.instance,
                ip_type=database.ip_type,
                error=type(error).__name__,
            )
    raise AssertionError("every exception is one")


def dialling(error: Exception, address: str, database: CloudSql) -> str:
    """Answer why the instance's server could not be talked to at `address`."""
    match error.__cause__ or error:
        case ssl.SSLCertVerificationError():
            return (
                f"who answers at {address} is not the instance {database.instance}:"
                " its certificate is not by the instance's authority"
            )
        case ssl.SSLError():
            return (
                f"TLS with {address} failed: the instance does not take the"
                " certificate that it was asked for; it is asked for another"
            )
        case TimeoutError() | ConnectionRefusedError() | OSError(errno=int()):
            hint = _NO_ANSWER[database.ip_type]
            return f"the instance does not answer at {address}: {hint}, and it must run"
    return f"the instance hung up at {address} before the login was done"


def logging_in(error: pg8000.dbapi.DatabaseError, database: CloudSql) -> str | None:
    """Answer why the server refuses the login, None where that is not what it says."""
    state = sql_state(error)
    if state.startswith("3D"):
        return f"the instance has no database {database.name}: check POSTGRES_DB"
    if not state.startswith("28"):
        return None
    if not database.has_iam_login:
        return (
            f"the instance refuses {database.user}:"
            " check POSTGRES_USER and POSTGRES_PASSWORD"
        )
    return (
        f"the instance refuses {database.user}: it must be the IAM user of the account"
        " that this runs as, with roles/cloudsql.instanceUser, on an instance with"
        " cloudsql.iam_authentication on"
    )
