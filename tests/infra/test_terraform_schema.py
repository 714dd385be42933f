"""The provider's schema, as it is derived from its bindings."""

import io
import json
import tarfile
import zipfile
from pathlib import Path

import pytest

from infra.terraform_checks.derive_schema import (
    CONFIGURATION,
    SCHEMA,
    VERSION,
    formatted,
    main,
    types_in,
)

PROVIDER = """
class GoogleProvider extends cdktn.TerraformProvider {
    // alias - computed: false, optional: true, required: false
    // project - computed: false, optional: true, required: false
    // toys_custom_endpoint - computed: false, optional: true, required: false
    synthesizeHclAttributes() {
        const attrs = {
            project: {
                value: cdktn.stringToHclTerraform(this._project),
                isBlock: false,
                type: "simple",
                storageClassType: "string",
            },
        };
    }
}
"""
# What matters of a type's JavaScript; all else is made longer by it, not different.
TOY = """
function toyWheelsToHclTerraform(struct) {
    const attrs = {
        size: {
            value: cdktn.numberToHclTerraform(struct.size),
            isBlock: false,
            type: "simple",
            storageClassType: "number",
        },
    };
}
class ToyWheelsOutputReference extends cdktn.ComplexObject {
    // size - computed: false, optional: false, required: true
    get size() {
        return this.getNumberAttribute('size');
    }
}
function toyMakersToHclTerraform(struct) {
    const attrs = {};
    return attrs;
}
class ToyMakersOutputReference extends cdktn.ComplexObject {
    // town - computed: true, optional: false, required: false
    get town() {
        return this.getStringAttribute('town');
    }
}
class Toy extends cdktn.TerraformResource {
    // name - computed: false, optional: false, required: true
    _name;
    // labels - computed: false, optional: true, required: false
    _labels;
    // id - computed: true, optional: true, required: false
    _id;
    // key_wo - computed: false, optional: true, required: false
    _keyWo;
    // made_at - computed: true, optional: false, required: false
    get madeAt() {
        return this.getStringAttribute('made_at');
    }
    // makers - computed: true, optional: false, required: false
    _makers = new ToyMakersList(this, "makers", false);
    // owners - computed: true, optional: false, required: false
    get owners() {
        return cdktn.Fn.tolist(this.getListAttribute('owners'));
    }
    // box - computed: false, optional: true, required: false
    _box = new ToyWheelsOutputReference(this, "box");
    // wheels - computed: false, optional: false, required: true
    _wheels = new ToyWheelsList(this, "wheels", true);
    // =========
    // SYNTHESIS
    // =========
    synthesizeHclAttributes() {
        const attrs = {
            name: {
                value: cdktn.stringToHclTerraform(this._name),
                isBlock: false,
                type: "simple",
                storageClassType: "string",
            },
            labels: {
                value: cdktn.hashMapperHcl(cdktn.stringToHclTerraform)(this._labels),
                isBlock: false,
                type: "map",
                storageClassType: "stringMap",
            },
            id: {
                value: cdktn.stringToHclTerraform(this._id),
                isBlock: false,
                type: "simple",
                storageClassType: "string",
            },
            key_wo: {
                value: cdktn.stringToHclTerraform(this._keyWo),
                isBlock: false,
                type: "simple",
                storageClassType: "string",
            },
            box: {
                value: toyWheelsToHclTerraform(this._box.internalValue),
                isBlock: true,
                type: "list",
                storageClassType: "ToyWheelsList",
            },
            wheels: {
                value: cdktn.listMapperHcl(toyWheelsToHclTerraform, true)(this._wheels),
                isBlock: true,
                type: "set",
                storageClassType: "ToyWheelsList",
            },
        };
    }
}
//# sourceMappingURL=data:application/json;base64,AAAA
"""
WHEEL = {"attributes": {"size": {"type": "number", "required": True}}}


def wheel(folder: Path, toy: str = TOY, about: str = "provider version 8.7.0") -> Path:
    """Answer bindings as they are packed: an archive in an archive."""
    inner = io.BytesIO()
    with tarfile.open(fileobj=inner, mode="w:gz") as package:
        for name, text in {
            "provider": PROVIDER,
            "toy": toy,
            "data-google-toy": toy,
        }.items():
            member = tarfile.TarInfo(f"package/lib/{name}/index.js")
            member.size = len(text.encode())
            package.addfile(member, io.BytesIO(text.encode()))
    path = folder / "google_bindings-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("google_bindings-1.0.dist-info/METADATA", f"\n{about}\n")
        archive.writestr("google/_jsii/provider-google.jsii.tgz", inner.getvalue())
    return path


@pytest.fixture
def arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    used = tmp_path / "used"
    used.mkdir()
    (used / "main.tf").write_text('resource "google_toy" "toy" {\n}\n')
    monkeypatch.setattr("infra.terraform_checks.derive_schema.CONFIGURATION", used)
    return ["--wheel", str(wheel(tmp_path)), "--out", str(tmp_path / "schema.json")]


def test_a_schema_has_what_terraform_checks(
    arguments: list[str], tmp_path: Path
) -> None:
    assert main(arguments) == 0
    schema = json.loads((tmp_path / "schema.json").read_text())
    assert schema["derived_from"] == "google_bindings-1.0-py3-none-any.whl"
    assert schema["provider_version"] == "8.7.0"
    assert schema["provider"] == {
        "attributes": {"project": {"type": "string", "optional": True}}
    }
    assert schema["data_source_schemas"] == {}
    assert schema["resource_schemas"]["google_toy"] == {
        "attributes": {
            "id": {"type": "string", "optional": True, "computed": True},
            "key_wo": {"type": "string", "optional": True, "write_only": True},
            "labels": {"type": ["map", "string"], "optional": True},
            "made_at": {"type": "string", "computed": True},
            "makers": {
                "type": ["list", ["object", {"town": "string"}]],
                "computed": True,
            },
            "name": {"type": "string", "required": True},
            "owners": {"type": ["set", "string"], "computed": True},
        },
        "blocks": {
            "box": {"nesting": "list", "max_items": 1, **WHEEL},
            "wheels": {"nesting": "set", "min_items": 1, **WHEEL},
        },
    }


def test_types_that_are_named_are_derived_too(
    arguments: list[str], tmp_path: Path
) -> None:
    assert main([*arguments, "--data", "google_toy"]) == 0
    schema = json.loads((tmp_path / "schema.json").read_text())
    assert schema["data_source_schemas"].keys() == {"google_toy"}


def test_a_type_that_the_bindings_lack_is_named(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments, "--resource", "google_tool"]) == 1
    assert "does not know resource google_tool" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (('"stringMap"', '"anyMap"'), "labels is a map of anyMap"),
        (("this.getStringAttribute('made_at')", "made"), "made_at is read in an"),
        (("// name -", "// name:"), "nothing is declared of name"),
        (("synthesizeHcl", "synthesize"), "bindings without a resource"),
    ],
)
def test_what_cannot_be_read_is_an_error_and_no_schema(
    arguments: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    change: tuple[str, str],
    said: str,
) -> None:
    wheel(tmp_path, TOY.replace(*change))
    assert main(arguments) == 1
    assert said in capsys.readouterr().err
    assert not (tmp_path / "schema.json").exists()


def test_bindings_that_do_not_say_of_which_version_are_refused(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wheel(tmp_path, about="")
    assert main(arguments) == 1
    assert "does not say of which version it is" in capsys.readouterr().err


def test_the_committed_schema_is_of_what_is_used_and_says_where_it_is_from() -> None:
    text = SCHEMA.read_text(encoding="utf-8")
    schema = json.loads(text)
    assert text == formatted(schema) + "\n"
    assert VERSION in schema["derived_from"]
    known = {("resource", name) for name in schema["resource_schemas"]}
    known |= {("data", name) for name in schema["data_source_schemas"]}
    assert known == types_in(CONFIGURATION)
