"""`compose.yaml` as a text: what each service is, needs, and lets in."""

import ast
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from common import config
from common.api_docs.documents import parsed
from infra.local import serve
from infra.local.gateway import FUNCTIONS, function_of
from tests.support.composed import COMPOSE, environment, is_ours, services
from tests.support.image import ROOT

SERVICES = services()
OURS = sorted(name for name, service in SERVICES.items() if is_ours(service))
ON_SCHEDULE = {"approval_handler", "outbox_relay"}  # nobody calls them from outside
ENTRIES = [
    *(f"functions/{name}/main.py" for name in FUNCTIONS),
    "functions/outbox_relay/worker.py",
    "functions/approval_handler/worker.py",
]


def entry(service: dict[str, Any]) -> str | None:
    """Answer which file of `functions/` a service runs, if any."""
    files = [each for each in service.get("command", []) if each.endswith(".py")]
    return files[0] if files else None


def needs(path: str) -> list[str]:
    """Answer what an entry point says that it cannot work without."""
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        match node:
            case ast.Call(
                func=ast.Attribute(value=ast.Name(id="wiring"), attr="start"),
                args=arguments,
            ):
                return [str(ast.literal_eval(each)) for each in arguments]
    raise AssertionError(f"{path} starts nothing")


def gateway_arguments() -> Any:
    command = SERVICES["gateway"]["command"]
    assert command[:3] == ["python", "-m", "infra.local.serve"]
    return serve._arguments(command[3:])


def test_docker_compose_accepts_it() -> None:
    docker = shutil.which("docker")
    version = [docker or "docker", "compose", "version"]
    if (
        not docker
        or subprocess.run(version, check=False, capture_output=True).returncode
    ):
        pytest.skip("no docker compose on this machine")
    done = subprocess.run(
        [docker, "compose", "--file", str(COMPOSE), "config", "--quiet"],
        check=False,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_each_function_and_worker_is_a_service_of_its_own() -> None:
    ran = [found for each in SERVICES.values() if (found := entry(each))]
    assert sorted(ran) == sorted(ENTRIES)
    assert {path.parent.name for path in ROOT.glob("functions/*/main.py")} == set(
        FUNCTIONS
    )
    others = {"postgres", "rabbitmq", "migrate", "sandbox", "gateway"}
    assert len(SERVICES) == len(ENTRIES) + len(others)
    assert others < SERVICES.keys()


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_function_is_served_as_its_target_under_its_service_s_name(
    function: str,
) -> None:
    command = SERVICES[function.replace("_", "-")]["command"]
    source = f"functions/{function}/main.py"
    assert command == ["functions-framework", "--source", source, "--target", function]
    assert re.search(rf"^def {function}\(", (ROOT / source).read_text(), re.MULTILINE)


@pytest.mark.parametrize("path", ENTRIES)
def test_an_entry_point_has_the_settings_that_it_asks_for(path: str) -> None:
    [service] = [each for each in SERVICES.values() if entry(each) == path]
    settings = config.load(environment(service), needs=needs(path))
    if settings.database:
        assert settings.bus == ("rabbitmq",)
        assert settings.analytics_url


def test_migrations_and_sandbox_have_theirs_and_no_others() -> None:
    migrate = environment(SERVICES["migrate"])
    assert config.load(migrate, needs=["DATABASE"]).rabbitmq is None
    sandbox = environment(SERVICES["sandbox"])
    assert config.load(sandbox, needs=["RABBITMQ"]).database is None
    assert SERVICES["migrate"]["command"] == ["orderctl", "migrate"]


def test_what_the_database_is_told_is_what_the_functions_say() -> None:
    told = environment(SERVICES["postgres"])
    assert told.items() <= environment(SERVICES["orders-crud"]).items()
    assert SERVICES["postgres"]["image"].startswith("postgres:16")


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_addresses_name_services_and_the_port_that_these_serve(name: str) -> None:
    said = [*environment(SERVICES[name]).values(), *SERVICES[name].get("command", [])]
    hosts = re.findall(r"http://([^/:]+):(\d+)", " ".join(said))
    assert {host for host, _ in hosts} <= SERVICES.keys()
    assert {port for _, port in hosts} <= {"8080"}
    for variable in ("POSTGRES_HOST", "RABBITMQ_HOST"):
        assert environment(SERVICES[name]).get(variable, "postgres") in SERVICES


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_a_service_waits_for_services_that_can_tell_when_they_are_there(
    name: str,
) -> None:
    for other, wait in SERVICES[name].get("depends_on", {}).items():
        awaited = SERVICES[other]
        match wait["condition"]:
            case "service_healthy":
                assert awaited["healthcheck"]["test"][0] == "CMD"
            case "service_completed_successfully":
                assert awaited["restart"] == "no"
            case condition:
                assert condition == "service_started"


@pytest.mark.parametrize("name", OURS)
def test_nothing_of_ours_that_has_a_database_starts_before_its_schema(
    name: str,
) -> None:
    if name != "migrate" and "POSTGRES_HOST" in environment(SERVICES[name]):
        waits = SERVICES[name]["depends_on"]["migrate"]
        assert waits == {"condition": "service_completed_successfully"}


@pytest.mark.parametrize("name", OURS)
def test_what_is_ours_can_write_nothing_and_gain_nothing(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "user" not in service  # the image's, which is not root
    assert not service.get("privileged")
    assert not service.get("volumes")


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_an_image_is_pinned_by_a_tag_that_names_a_version(name: str) -> None:
    image = SERVICES[name]["image"]
    assert image == "order-service:local" or re.fullmatch(r"[a-z]+:\d+[\w.-]*", image)


def test_the_image_is_built_once_and_never_looked_for_elsewhere() -> None:
    builds = {name: each["build"] for name, each in SERVICES.items() if "build" in each}
    [(name, build)] = builds.items()
    assert name == "migrate"
    assert (ROOT / build["dockerfile"]).is_file()
    assert build["context"] == "."
    assert {SERVICES[name]["pull_policy"] for name in OURS} == {"never"}


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_ports_are_open_to_this_machine_only(name: str) -> None:
    for port in SERVICES[name].get("ports", []):
        assert re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port)


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_what_is_mounted_exists_or_is_a_volume(name: str) -> None:
    volumes = yaml.safe_load(COMPOSE.read_text())["volumes"]
    for mount in SERVICES[name].get("volumes", []):
        source, target, *options = mount.split(":")
        if source.startswith("./"):
            assert (ROOT / source).is_file(), source
            assert options == ["ro"]
        else:
            assert source in volumes
        assert Path(target).is_absolute()


def test_the_gateway_knows_each_function_by_its_service() -> None:
    where = dict(gateway_arguments().function)
    assert where == {
        name: f"http://{name.replace('_', '-')}:8080" for name in FUNCTIONS
    }
    assert gateway_arguments().sandbox == "http://sandbox:8080"
    waits = SERVICES["gateway"]["depends_on"]
    assert waits.keys() == {name.replace("_", "-") for name in FUNCTIONS} | {"sandbox"}


def routes_of(function: str) -> set[str]:
    """Answer the paths that a function serves, as its source has them."""
    text = (ROOT / "functions" / function / "main.py").read_text()
    return set(re.findall(r'@app\.\w+\(\s*"(/[^"]*)"', text))


@pytest.mark.parametrize("path", sorted(parsed("openapi")["paths"]))
def test_the_gateway_leads_each_documented_path_to_the_function_that_serves_it(
    path: str,
) -> None:
    function = function_of(re.sub(r"{[^}]*}", "7", path))
    routes = {re.sub(r"<[^>]*>", "{}", route) for route in routes_of(function)}
    served = {route.rstrip("/") for route in routes}
    if not path.startswith("/health/"):  # every function has these
        shape = re.sub(r"{[^}]*}", "{}", path)
        assert shape.rstrip("/") in served, f"{function} serves {sorted(served)}"


def test_the_gateway_leads_to_every_function_that_is_called_from_outside() -> None:
    paths = [re.sub(r"{[^}]*}", "7", path) for path in parsed("openapi")["paths"]]
    led = {function_of(path) for path in paths}
    assert led | {"api_docs", "ops_console"} == set(FUNCTIONS) - ON_SCHEDULE


def test_a_gateway_that_does_not_know_every_function_does_not_start(
    capsys: pytest.CaptureFixture[str],
) -> None:
    command = SERVICES["gateway"]["command"][3:]
    lacking = [each for each in command if "item_status" not in each]
    with pytest.raises(SystemExit):
        serve._arguments(lacking)
    assert "--function: once each of" in capsys.readouterr().err


def test_passwords_are_the_word_local_and_said_to_be() -> None:
    text = COMPOSE.read_text()
    secrets = re.findall(r"(?:PASS|PASSWORD|SECRET|TOKEN|KEY): *(\S+)", text)
    assert secrets
    assert set(secrets) == {"local"}
    users = (ROOT / "infra" / "compose" / "users.json").read_text()
    assert set(re.findall(r'"password": "([^"]*)"', users)) == {"local"}
