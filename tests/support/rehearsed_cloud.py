"""The programs that a page names, for a rehearsal: each refuses what came too early.

It runs as `gcloud`, `terraform` and others, by the name that it is called by, and keeps
its state in the folder REHEARSAL. Facts are what earlier commands have brought about.
"""

import json
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

STATE = Path(os.environ["REHEARSAL"])
DIGEST = "sha256:" + "d" * 64
ACCOUNT = "olga@example.com"
# A command, what must be so before it, and what is so afterwards, which may name groups
# of the first. The first that matches counts.
RULES = (
    (r"gcloud auth login", (), ("user",)),
    (r"gcloud auth application-default login", ("user",), ("credentials",)),
    (r"gcloud config set project", ("user",), ("project",)),
    (r"gcloud services enable", ("project",), ()),
    (
        r"gcloud auth application-default set-quota-project",
        ("credentials", "service serviceusage"),
        (),
    ),
    (
        r"gcloud beta --quiet services identity create --service (?P<a>\w+)\.",
        ("service {a}",),
        ("agent {a}",),
    ),
    (
        r"gcloud storage buckets create gs://(?P<a>\S+)",
        ("service storage",),
        ("bucket {a}",),
    ),
    (r"gcloud storage buckets update gs://(?P<a>\S+)", ("bucket {a}",), ()),
    (r"gcloud iam service-accounts create", ("service iam",), ()),
    (
        r"terraform .*init .*bucket=(?P<a>\S+)",
        ("credentials", "bucket {a}", "agent pubsub"),
        ("initialised",),
    ),
    (
        r"terraform .*apply .*-target=terraform_data.foundation",
        ("initialised", "service cloudresourcemanager", "service serviceusage"),
        ("foundation",),
    ),
    (
        r"gcloud iam service-accounts add-iam-policy-binding order-build@",
        ("foundation",),
        ("may build",),
    ),
    (r"gcloud secrets versions add (?P<a>\S+)", ("foundation",), ("secret {a}",)),
    (r"gcloud sql users", ("foundation",), ()),
    (r"gcloud storage cp .* gs://(?P<a>[^/]+)/", ("bucket {a}",), ()),
    (r"gcloud artifacts docker images describe", ("foundation",), ()),
    (r"gcloud builds submit", ("foundation", "may build"), ("images",)),
    (
        r"terraform .*apply .*-target=google_cloud_run_v2_job.migrate",
        ("images", "every secret"),
        ("migration job",),
    ),
    (r"gcloud run jobs execute order-migrate", ("migration job",), ("schema",)),
    (r"gcloud run jobs execute", ("services",), ()),
    (r"terraform .*apply ", ("images", "schema"), ("services",)),
    (r"terraform .*destroy", ("services",), ("destroyed",)),
    (r"terraform .*output", ("foundation",), ()),
    (r"gcloud run services add-iam-policy-binding", ("services",), ("may call",)),
    (r"gcloud run services remove-iam-policy-binding", ("may call",), ()),
    (r"gcloud (run services|scheduler jobs|logging read)", ("services",), ()),
    (r"gcloud storage rm", ("destroyed",), ()),
    (r"curl .*\.example/", ("may call",), ()),
)
# What waits for a person: the next line of the terminal is the answer.
ASKING = (
    r"gcloud auth (application-default )?login",
    r"terraform (?!.*-auto-approve).*(apply|destroy)",
    r"gcloud projects delete",
    r"rabbitmqctl add_user",
    r"vi ",
)


def facts() -> set[str]:
    """Return all facts so far."""
    path = STATE / "facts"
    return set(path.read_text().splitlines()) if path.exists() else set()


def add(*new: str) -> None:
    """Remember facts."""
    with (STATE / "facts").open("a") as file:
        file.writelines(f"{each}\n" for each in new)


def refuse(reason: str) -> None:
    """Note why a command was refused, and end with it."""
    with (STATE / "refused").open("a") as file:
        file.write(f"{reason}\n")
    sys.exit(reason)


def ask(line: str) -> None:
    """Ask at the terminal, and refuse every answer but yes."""
    with Path("/dev/tty").open("r+b", buffering=0) as terminal:
        terminal.write(b"ASKS: ")
        answer = terminal.readline().decode().strip()
    if answer != "yes":
        refuse(f"{line}: was answered {answer!r}")


def missing(needs: tuple[str, ...], groups: dict[str, str]) -> list[str]:
    """Return which facts are not there."""
    found = facts()
    wanted = [each.format(**groups) for each in needs]
    if "every secret" in wanted:
        secrets = (STATE / "secrets").read_text().split()
        wanted += [f"secret {each}" for each in secrets]
        wanted.remove("every secret")
    return [each for each in wanted if each not in found]


def main() -> None:
    """Do what the command does to the state, and print what it would."""
    words = [Path(sys.argv[0]).name, *sys.argv[1:]]
    line = " ".join(words)
    with (STATE / "calls").open("a") as calls:
        calls.write(json.dumps(words) + "\n")
    for pattern, needs, gives in RULES:
        if found := re.match(pattern, line):
            groups = found.groupdict()
            if lacking := missing(needs, groups):
                refuse(f"{line}: before it comes {', '.join(lacking)}")
            if any(re.match(each, line) for each in ASKING):
                ask(line)
            add(*(each.format(**groups) for each in gives))
            break
    else:
        if any(re.match(each, line) for each in ASKING):
            ask(line)
    act(words, line)


def enable(words: list[str]) -> str:
    """Remember which services are enabled."""
    add(*(f"service {each.partition('.')[0]}" for each in words[3:]))
    return ""


def keep_secret(words: list[str]) -> str:
    """Keep a secret's value, which must be one line."""
    given = sys.stdin.read().strip()
    if not given or "\n" in given:
        refuse(f"{' '.join(words)}: was given {given!r}")
    with (STATE / "given").open("a") as file:
        file.write(f"{words[4]} {given}\n")
    return ""


def images() -> list[str]:
    """Return all images that were built."""
    path = STATE / "images"
    return path.read_text().split() if path.exists() else []


def describe_image(words: list[str]) -> str:
    """Return an image's digest; end with an error if there is no such image."""
    if words[5] not in images():
        sys.exit("no such image")
    return f"{words[5].rpartition(':')[0]}@{DIGEST}"


def build_image(words: list[str]) -> str:
    """Remember the image that a build makes."""
    given = words[words.index("--substitutions") + 1]
    image = dict(each.split("=", 1) for each in given.split(","))["_IMAGE"]
    with (STATE / "images").open("a") as file:
        file.write(f"{image}\n")
    return ""


def describe_service(words: list[str]) -> str:
    """Return a service's address, or all of it."""
    name = words[4]
    url = f"https://{name}.example"
    if "json" not in words:
        return url
    revision = f"{name}-00001"
    status = {
        "url": url,
        "latestCreatedRevisionName": revision,
        "latestReadyRevisionName": revision,
        "conditions": [{"type": "Ready", "status": "True"}],
    }
    return json.dumps({"status": status})


def outputs(_: list[str]) -> str:
    """Return Terraform's outputs: the images of functions."""
    found = {
        re.split(r"[/:]", image)[-2].replace("-", "_"): image
        for image in images()
        if "/tools:" not in image
    }
    return json.dumps({"function_images": {"value": found}})


ACTS: tuple[tuple[str, Callable[[list[str]], str]], ...] = (
    (r"gcloud services enable", enable),
    (r"gcloud secrets versions add", keep_secret),
    (r"gcloud artifacts docker images describe", describe_image),
    (r"gcloud builds submit", build_image),
    (r"gcloud config get-value account", lambda _: ACCOUNT),
    (
        r"gcloud (auth print-identity-token|secrets versions access)",
        lambda _: "a-token",
    ),
    (r"gcloud run jobs describe", lambda _: f"example.dev/tools@{DIGEST}"),
    (r"gcloud run services describe", describe_service),
    (r"terraform .*output -json$", outputs),
    (r"terraform .*output", lambda _: "a-value"),
)


def act(words: list[str], line: str) -> None:
    """Do to the state what the command would, and print what it would."""
    for pattern, does in ACTS:
        if re.match(pattern, line):
            if said := does(words):
                print(said)
            return


if __name__ == "__main__":
    main()
