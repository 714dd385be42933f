"""Readiness: whether the database is ready for this release."""

from common.database import tables as models
from common.database.engine import Engine, connect, named, read
from common.errors import DatabaseUnavailableError

# The oldest schema with everything that this code uses; it runs on every later one.
NEEDED_REVISION = "0008"

_CHECK = named(
    "readiness.check",
    """
SELECT
  (SELECT coalesce(max(version_num), '') FROM alembic_version),
  CAST(current_setting('transaction_read_only') AS boolean),  -- true on a standby, too
  ARRAY(
    SELECT name FROM unnest(CAST(:tables AS text[])) name
    WHERE NOT (has_table_privilege(name, 'SELECT')
      AND has_table_privilege(name, 'INSERT')
      AND has_table_privilege(name, 'UPDATE')
      AND has_table_privilege(name, 'DELETE'))
    UNION ALL
    SELECT CAST(c.relname AS text)
    FROM unnest(CAST(:tables AS text[])) name
    JOIN pg_depend d ON d.refobjid = CAST(name AS regclass)
      AND d.classid = CAST('pg_class' AS regclass)
    JOIN pg_class c ON c.oid = d.objid
    WHERE CASE c.relkind WHEN 'S' THEN NOT has_sequence_privilege(c.oid, 'USAGE') END)
""",
)


def check(engine: Engine) -> None:
    """Raise DatabaseUnavailableError or BusyError unless the database is ready."""
    tables = [table.name for table in models.metadata.sorted_tables]
    with connect(engine) as connection:
        revision, is_read_only, not_granted = read(
            connection, _CHECK, {"tables": tables}
        ).one()
        if is_read_only:
            connection.invalidate()
    if is_read_only:
        engine.dispose()  # new sessions may reach a writable server
        raise DatabaseUnavailableError("The database takes no writes.")
    if revision < NEEDED_REVISION:
        raise DatabaseUnavailableError(
            f"The database's schema is at {revision or 'nothing'}, and this release"
            f" needs {NEEDED_REVISION}: run orderctl migrate."
        )
    if not_granted:
        raise DatabaseUnavailableError(
            f"The database's login lacks rights on {', '.join(not_granted)}:"
            " run orderctl migrate --grant-to."
        )
