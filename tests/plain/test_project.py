"""What the project's files say of each other: commands, versions, links."""

import configparser
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
TOX = configparser.RawConfigParser()
TOX.read(ROOT / "tox.ini")


def test_ci_runs_the_readmes_own_test_command_and_then_the_full_tier():
    (command,) = re.findall(r"^python -m pip install tox && tox.*$", README, flags=re.MULTILINE)
    assert command == "python -m pip install tox && tox -p auto"
    lines = [line for line in (ROOT / ".ci/run").read_text().splitlines() if not line.startswith("#")]
    assert lines[-3:] == [command, "rm -rf .tox", "TIER=full tox -p auto -m full"]
    assert command in CONTRIBUTING
    assert "tox -p auto -m full" in CONTRIBUTING


def test_the_main_job_is_one_command():
    assert re.search(r"^python -m pip install .* && .*python examples/user_embeddings.py$", README, flags=re.MULTILINE)


@pytest.mark.parametrize(
    "document", ["README.md", "CONTRIBUTING.md", *(f"docs/{p.name}" for p in ROOT.glob("docs/*.md"))]
)
def test_links_and_pictures_exist(document):
    targets = re.findall(r"\]\(([^)#]+)\)", (ROOT / document).read_text(encoding="utf-8"))
    assert targets or document != "README.md"
    for target in targets:
        assert target.startswith("https://") or (ROOT / document).parent.joinpath(target).exists(), target


def test_every_folder_of_tests_is_run_by_an_environment():
    folders = {f"tests/{path.parent.name}" for path in ROOT.glob("tests/*/test_*.py")}
    names = ("testenv", "testenv:libraries", "testenv:corpora")
    commands = "".join(TOX[name]["commands"] for name in names)
    assert folders == set(re.findall(r"tests/\w+", commands))


def test_the_full_tier_has_every_environment_of_the_default_tier():
    default = TOX["tox"]["env_list"].split(", ")
    full = TOX["tox"]["labels"].split("=")[1].strip().split(", ")
    assert {name.removesuffix("-full") for name in full} == {*default, "lowest"}


def test_workflows_call_tox_and_nothing_else():
    workflow = (ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8")
    commands = re.findall(r"run: (.*)", workflow)
    assert commands
    assert {command.split("&&")[0].strip() for command in commands} == {"python -m pip install tox"}
    assert all(re.fullmatch(r"python -m pip install tox && tox [^&;|]*", command) for command in commands)


def test_what_the_metadata_declare_is_what_the_lowest_environment_installs():
    metadata = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    pinned = dict(re.findall(r"^\s*(?:\w+: )?([a-z-]+)==([\d.]+)$", TOX["testenv:lowest"]["deps"], flags=re.MULTILINE))
    pinned["tensorflow"] = pinned.pop("tensorflow-cpu", pinned.get("tensorflow"))
    for package in ("keras", "numpy", "tensorflow", "jax", "torch"):
        (floor,) = re.findall(rf'"{package}>=([\d.]+)"', metadata)
        assert f"{pinned[package]}.".startswith(f"{floor}."), package
    assert not re.findall(r'"(?:keras|numpy|tensorflow|jax|torch)[^"]*<', metadata)
