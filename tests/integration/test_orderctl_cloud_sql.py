"""`orderctl` over Cloud SQL, and the rights that a migration gives to functions."""

import uuid
from collections.abc import Iterator
from contextlib import closing

import pytest

from common.database import migrations
from infra.orderctl import main
from tests.support.cloud_sql import Instance, role
from tests.support.database import connect, database, execute
from tests.support.orderctl import Said, orderctl

DENIED = "42501"


def by_name(instance: Instance, *arguments: object, **more: str) -> Said:
    return orderctl("", *arguments, **instance.settings(**more))


@pytest.fixture
def migrating(postgres_url: str, instance: Instance) -> Iterator[str]:
    """An empty database that belongs to the instance's user: its own address."""
    with database(postgres_url) as url:
        instance.database = url.rpartition("/")[2]
        owner = f'"{instance.iam_user}"'
        execute(postgres_url, f'ALTER DATABASE "{instance.database}" OWNER TO {owner}')
        execute(url, f"GRANT CREATE ON SCHEMA public TO {owner}")
        yield url


@pytest.fixture(params=["orders-crud@shop-42.iam", 'o"; DROP x; %s :name $1 --', "Ö"])
def function(request: pytest.FixtureRequest, postgres_url: str) -> Iterator[str]:
    """A role of a function, with a name that must be quoted."""
    with role(postgres_url, f"{request.param}-{uuid.uuid4().hex[:8]}") as name:
        yield name


def attempt(url: str, name: str, *statements: str) -> list[str]:
    """Run each statement as a role; return the SQLSTATE of each, '' where it ran."""
    states = []
    quoted = name.replace('"', '""')
    with closing(connect(url)) as connection:
        connection.run(f'SET SESSION AUTHORIZATION "{quoted}"')
        for statement in statements:
            try:
                connection.run(statement)
                states.append("")
            except Exception as error:  # noqa: BLE001 the driver's
                states.append(error.args[0]["C"])
    return states


def test_migrations_and_other_commands_work_over_it(
    instance: Instance, migrating: str
) -> None:
    said = by_name(instance, "migrate")
    assert (said.status, said.err) == (0, "")
    assert said.out.split()[-1] == migrations.head()
    assert execute(migrating, "SELECT count(*) FROM orders") == [[0]]
    for arguments in (["relay", "--once"], ["events", "list"]):
        said = by_name(instance, *arguments)
        assert (said.status, said.err) == (0, ""), arguments


def test_an_iam_login_migrates_and_grants_as_a_member_of_the_database_s_owner(
    instance: Instance, postgres_url: str, function: str
) -> None:
    owner = f"cloudsqlsuperuser-{uuid.uuid4().hex[:8]}"
    with database(postgres_url) as url:
        instance.database = url.rpartition("/")[2]
        execute(postgres_url, f'CREATE ROLE "{owner}" CREATEDB CREATEROLE')
        execute(
            postgres_url, f'ALTER DATABASE "{instance.database}" OWNER TO "{owner}"'
        )
        execute(postgres_url, f'GRANT "{owner}" TO "{instance.iam_user}"')
        name = function.replace(",", "")
        said = by_name(instance, "migrate", "--grant-to", f"orders_crud={name}")
        assert (said.status, said.err) == (0, "")
        assert attempt(url, name, "SELECT * FROM orders", "DROP TABLE orders") == [
            "",
            DENIED,
        ]
        again = by_name(instance, "migrate", "--grant-to", f"orders_crud={name}")
        assert (again.status, again.err) == (0, "")
    execute(postgres_url, f'DROP ROLE "{owner}"')


def test_the_doctor_tells_how_the_database_is_reached(
    instance: Instance,
) -> None:
    said = by_name(instance, "doctor")
    how = f"private address, IAM login as {instance.iam_user}"
    where = f"{instance.name}/{instance.database}"
    assert (said.status, said.err) == (0, "")
    assert said.out.splitlines() == [f"Cloud SQL {where}: {how}", "", "all is well"]
    told = by_name(instance, "doctor", "--json").json
    assert told["database"] == {"where": where, "login": how}


def test_an_instance_out_of_reach_is_one_line_that_says_why(
    instance: Instance,
) -> None:
    instance.refusal = 403
    said = by_name(instance, "doctor")
    assert (said.status, said.out) == (1, "")
    [line] = said.err.splitlines()
    where = f"{instance.name}/{instance.database}"
    assert line.startswith(f"orderctl: the database {where} is unreachable: ")
    assert "roles/cloudsql.client" in line


def test_a_role_may_do_what_a_function_does_and_change_no_table(
    function: str, migrating: str
) -> None:
    name = function.replace(",", "")
    said = orderctl(migrating, "migrate", "--grant-to", name)
    assert (said.status, said.err) == (0, "")
    assert said.out.splitlines()[-1].endswith(name)
    assert attempt(
        migrating,
        name,
        "INSERT INTO orders (user_id) VALUES (gen_random_uuid())",
        "UPDATE orders SET is_complete = true",
        "SELECT * FROM orders FOR UPDATE",
        "DELETE FROM orders",
        "SELECT nextval('orders_id_seq')",
        "SELECT * FROM alembic_version",
        "INSERT INTO outbox (destination, order_id, event_id, event_type, body)"
        " VALUES ('http', 1, gen_random_uuid(), 'x', '{}')",
    ) == ["", "", "", "", "", "", ""]
    assert (
        attempt(
            migrating,
            name,
            "CREATE TABLE mine (id int)",
            "DROP TABLE orders",
            "ALTER TABLE orders ADD COLUMN mine int",
            "TRUNCATE orders CASCADE",
            "CREATE INDEX mine ON orders (user_id)",
            "UPDATE alembic_version SET version_num = '0000'",
            "SELECT setval('orders_id_seq', 1)",
            "CREATE SCHEMA mine",
        )
        == [DENIED] * 8
    )


def test_rights_may_be_given_again_and_to_several(
    migrating: str, postgres_url: str
) -> None:
    names = [f"f{n}-{uuid.uuid4().hex[:8]}@shop-42.iam" for n in range(3)]
    first, second, third = names
    with role(postgres_url, first), role(postgres_url, second):
        with role(postgres_url, third):
            lists = [f"{first}, {second}", third]
            for _ in range(2):
                given = [word for each in lists for word in ("--grant-to", each)]
                said = orderctl(migrating, "migrate", "--json", *given)
                assert said.json["granted_to"] == names
            for name in names:
                assert attempt(migrating, name, "SELECT * FROM outbox") == [""]
            execute(migrating, f'DROP OWNED BY "{third}"')
        for name in (first, second):
            execute(migrating, f'DROP OWNED BY "{name}"')


def test_a_role_that_does_not_exist_is_said_before_anything_is_changed(
    migrating: str,
) -> None:
    said = orderctl(migrating, "migrate", "--grant-to", "nobody@shop-42.iam")
    assert (said.status, said.out) == (2, "")
    [line] = said.err.splitlines()
    assert "'nobody@shop-42.iam'" in line
    assert execute(migrating, "SELECT to_regclass('orders')") == [[None]]


def test_who_does_not_own_the_tables_cannot_give_rights(
    postgres_url: str, instance: Instance
) -> None:
    url = f"{postgres_url.rpartition('/')[0]}/{instance.database}"
    with role(postgres_url, f"other-{uuid.uuid4().hex[:8]}@shop-42.iam") as other:
        for has_rights in (True, False):
            if not has_rights:
                execute(url, f'REVOKE ALL ON orders, outbox FROM "{instance.iam_user}"')
            said = by_name(instance, "migrate", "--grant-to", other)
            assert (said.status, said.out) == (2, "")
            assert said.err == (
                "orderctl: only the tables' owner can grant: run it as who migrates\n"
            )
            assert attempt(url, other, "SELECT * FROM orders") == [DENIED]


@pytest.mark.parametrize("names", ["", "a,,b", " "])
def test_a_name_that_is_none_is_wrong_usage(
    names: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main(["migrate", "--grant-to", names])
    assert end.value.code == 2
    assert "is not a list of roles" in capsys.readouterr().err
