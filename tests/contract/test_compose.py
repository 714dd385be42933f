"""`compose.yaml` as a text: what each service is, needs, and lets in.

`test_compose_run.py` starts it: what a command or a setting would break shows there.
"""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from common.api_docs.documents import parsed
from common.config import settings as config
from infra.local import serve
from infra.local.gateway import FUNCTIONS, function_of
from tests.support.composed import COMPOSE, environment, is_ours, services
from tests.support.image import ROOT

SERVICES = services()
OURS = sorted(name for name, service in SERVICES.items() if is_ours(service))
OTHERS = {"postgres", "rabbitmq", "migrate", "sandbox", "gateway"}
ON_SCHEDULE = {"approval_handler", "outbox_relay"}  # nobody calls them from outside
ENTRIES = [
    *(f"functions/{name}/main.py" for name in FUNCTIONS),
    "functions/outbox_relay/worker.py",
    "functions/approval_handler/worker.py",
]
BESIDE_THE_GATEWAY = "8081"  # the console's port, on an interface that both share
every_service = pytest.mark.parametrize("name", sorted(SERVICES))


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
    words = [word for each in SERVICES.values() for word in each.get("command", [])]
    assert sorted(word for word in words if word.endswith(".py")) == sorted(ENTRIES)
    functions = {path.parent.name for path in ROOT.glob("functions/*/main.py")}
    assert functions == set(FUNCTIONS)
    assert len(SERVICES) == len(ENTRIES) + len(OTHERS)
    assert SERVICES.keys() > OTHERS


def test_each_service_has_the_settings_that_it_works_with_and_no_others() -> None:
    for name in SERVICES.keys() - OTHERS - {"api-docs"}:
        settings = config.load(environment(SERVICES[name]), needs=["DATABASE"])
        assert settings.database, name
        assert settings.analytics_url, name
        assert settings.bus == ("rabbitmq",)
    migrate = environment(SERVICES["migrate"])
    assert config.load(migrate, needs=["DATABASE"]).rabbitmq is None
    sandbox = environment(SERVICES["sandbox"])
    assert config.load(sandbox, needs=["RABBITMQ"]).database is None
    database = environment(SERVICES["postgres"])
    assert database.items() <= environment(SERVICES["orders-crud"]).items()


@every_service
def test_addresses_name_services_and_the_port_that_these_serve(name: str) -> None:
    said = [*environment(SERVICES[name]).values(), *SERVICES[name].get("command", [])]
    hosts = re.findall(r"http://([^/:]+):(\d+)", " ".join(said))
    for host, port in hosts:
        if host == "127.0.0.1":
            assert port == BESIDE_THE_GATEWAY
        else:
            assert (host in SERVICES, port) == (True, "8080")
    for variable in ("POSTGRES_HOST", "RABBITMQ_HOST"):
        assert environment(SERVICES[name]).get(variable, "postgres") in SERVICES


@every_service
def test_a_service_waits_for_services_that_can_tell_when_they_are_there(
    name: str,
) -> None:
    waits = SERVICES[name].get("depends_on", {})
    for other, wait in waits.items():
        awaited = SERVICES[other]
        match wait["condition"]:
            case "service_healthy":
                assert awaited["healthcheck"]["test"][0] == "CMD"
            case "service_completed_successfully":
                assert awaited["restart"] == "no"
            case condition:
                assert condition == "service_started"
    # Nothing of ours that has a database starts before its schema.
    if name in set(OURS) - {"migrate"} and "POSTGRES_HOST" in environment(
        SERVICES[name]
    ):
        assert waits["migrate"] == {"condition": "service_completed_successfully"}


@pytest.mark.parametrize("name", OURS)
def test_what_is_ours_can_write_nothing_and_gain_nothing(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["pull_policy"] == "never"
    # The user is the image's, which is not root.
    assert not {"user", "privileged", "volumes"} & service.keys()


@every_service
def test_images_are_pinned_ports_are_this_machine_s_and_mounts_exist(name: str) -> None:
    service = SERVICES[name]
    ours = "order-service:local"
    assert service["image"] == ours or re.fullmatch(
        r"[a-z]+:\d+[\w.-]*", service["image"]
    )
    for port in service.get("ports", []):
        assert re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port)
    volumes = yaml.safe_load(COMPOSE.read_text())["volumes"]
    for mount in service.get("volumes", []):
        source, target, *options = mount.split(":")
        if source.startswith("./"):
            assert (ROOT / source).is_file(), source
            assert options == ["ro"]
        else:
            assert source in volumes
        assert Path(target).is_absolute()


def test_the_image_is_built_once() -> None:
    builds = {name: each["build"] for name, each in SERVICES.items() if "build" in each}
    [(name, build)] = builds.items()
    assert name == "migrate"
    assert (ROOT / build["dockerfile"]).is_file()
    assert build["context"] == "."


def gateway_arguments(*lacking: str) -> Any:
    words = SERVICES["gateway"]["command"][3:]
    return serve._arguments([w for w in words if not any(n in w for n in lacking)])


def test_the_gateway_knows_each_function_by_its_service(
    capsys: pytest.CaptureFixture[str],
) -> None:
    where = dict(gateway_arguments().function)
    assert where == {
        name: f"http://{name.replace('_', '-')}:8080" for name in FUNCTIONS
    } | {"ops_console": f"http://127.0.0.1:{BESIDE_THE_GATEWAY}"}
    assert gateway_arguments().sandbox == "http://sandbox:8080"
    waits = SERVICES["gateway"]["depends_on"]
    awaited = {*FUNCTIONS, "sandbox"} - {"ops_console"}  # which waits for the gateway
    assert waits.keys() == {name.replace("_", "-") for name in awaited}
    with pytest.raises(SystemExit):
        gateway_arguments("item_status")
    assert "--function: once each of" in capsys.readouterr().err


def test_the_console_listens_to_nobody_but_the_gateway() -> None:
    console = SERVICES["ops-console"]
    assert console["network_mode"] == "service:gateway"
    assert "ports" not in console
    words = console["command"]
    assert words[words.index("--host") + 1] == "127.0.0.1"
    assert words[words.index("--port") + 1] == BESIDE_THE_GATEWAY
    loaded = config.load(environment(console), needs=["OPS_IDENTITY"])
    assert loaded.console == config.Console(identity="header")


def test_the_gateway_leads_each_documented_path_to_the_function_that_serves_it() -> (
    None
):
    led = set()
    for path in parsed("openapi")["paths"]:
        function = function_of(re.sub(r"{[^}]*}", "7", path))
        led.add(function)
        text = (ROOT / "functions" / function / "main.py").read_text()
        routes = re.findall(r'@app\.\w+\(\s*"(/[^"]*)"', text)
        served = {re.sub(r"<[^>]*>", "{}", route).rstrip("/") for route in routes}
        if not path.startswith("/health/"):  # every function has these
            assert re.sub(r"{[^}]*}", "{}", path).rstrip("/") in served, path
    assert led | {"api_docs", "ops_console"} == set(FUNCTIONS) - ON_SCHEDULE


def test_passwords_are_the_word_local_and_said_to_be() -> None:
    text = COMPOSE.read_text()
    secrets = re.findall(r"(?:PASS|PASSWORD|SECRET|TOKEN|KEY): *(\S+)", text)
    assert secrets
    assert set(secrets) == {"local"}
    users = (ROOT / "infra" / "compose" / "users.json").read_text()
    assert set(re.findall(r'"password": "([^"]*)"', users)) == {"local"}
