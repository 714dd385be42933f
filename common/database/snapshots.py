"""Snapshots that are held for long: until they end, no dead row can be removed.

A forgotten BEGIN, a backup, a prepared transaction, a replication slot. What other
logins do is seen by a login with `pg_read_all_stats`.
"""

from datetime import datetime

from msgspec import Struct, json

from common.database.engine import Connection, named


class Snapshot(Struct, frozen=True):
    """A snapshot or transaction, and who holds it.

    `kind` is 'session', 'prepared' or 'slot'; `name` is the session's process, else the
    transaction's or the slot's name. `seconds` is None for a slot
    or a standby: it has no time, only an age in transactions.
    """

    kind: str
    name: str
    login: str | None
    application: str | None
    client: str | None
    state: str | None
    transactions: int
    since: datetime | None = None
    seconds: int | None = None

    @property
    def owner(self) -> str:
        """Return whose it is, and what to end."""
        what = {
            "session": f"process {self.name}",
            "prepared": f"prepared transaction {self.name}",
            "slot": f"replication slot {self.name}",
        }[self.kind]
        about = ", ".join(filter(None, (self.application, self.client, self.state)))
        described = f"{what} of {self.login}" if self.login else what
        return f"{described} ({about})" if about else described

    @property
    def remedy(self) -> str:
        """Return the statement that ends it."""
        return {
            "session": f"SELECT pg_terminate_backend({self.name})",
            "prepared": f"ROLLBACK PREPARED {_quoted(self.name)}",
            "slot": f"SELECT pg_drop_replication_slot({_quoted(self.name)})",
        }[self.kind]


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


# What has no time counts once it is as old as this: a slot that is read follows
# closely, and so does a standby that reports its own snapshots.
_SLOT_TRANSACTIONS = 100_000
_READ = named(
    "snapshots.read",
    f"""
WITH held AS (
  SELECT 'session' AS kind, CAST(pid AS text) AS name, CAST(usename AS text) AS login,
    application_name AS application, CAST(client_addr AS text) AS client, state,
    xact_start AS since,
    greatest(age(backend_xmin), age(backend_xid)) AS transactions
  FROM pg_stat_activity
  WHERE (datname = current_database() OR datid IS NULL) AND pid <> pg_backend_pid()
    AND (backend_xmin IS NOT NULL OR backend_xid IS NOT NULL)
    AND backend_type NOT LIKE 'autovacuum%'
  UNION ALL
  SELECT 'prepared', gid, CAST(owner AS text), NULL, NULL, NULL, prepared,
    age(transaction)
  FROM pg_prepared_xacts WHERE database = current_database()
  UNION ALL
  SELECT 'slot', CAST(slot_name AS text), NULL, NULL, NULL,
    CASE WHEN active THEN 'active' ELSE 'inactive' END, NULL,
    greatest(age(xmin), age(catalog_xmin))
  FROM pg_replication_slots
)
SELECT CAST(coalesce(json_agg(to_jsonb(held) || jsonb_build_object('seconds',
    CAST(greatest(extract(epoch FROM clock_timestamp() - since), 0) AS bigint))
  ORDER BY since NULLS LAST, transactions DESC), '[]') AS text)
FROM held
WHERE since IS NULL AND transactions > {_SLOT_TRANSACTIONS}
  OR since < clock_timestamp() - make_interval(secs => CAST(:seconds AS int))
""",  # noqa: S608 fragments of our own
)


def read(connection: Connection, seconds: int = 0) -> list[Snapshot]:
    """Return what is held for longer than `seconds`, the oldest first; slots last."""
    text = connection.execute(_READ, {"seconds": seconds}).scalar_one()
    return json.decode(text, type=list[Snapshot])
