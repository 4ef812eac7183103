"""What the project's files say of each other: commands, versions, links."""

import configparser
import importlib.util
import re
import sys
import types
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
    "document", ["README.md", "CONTRIBUTING.md", *(str(p.relative_to(ROOT)) for p in ROOT.glob("docs/**/*.md"))]
)
def test_links_and_pictures_exist(document):
    targets = re.findall(r"\]\(([^)#]+)\)", (ROOT / document).read_text(encoding="utf-8"))
    assert targets or document != "README.md"
    for target in targets:
        assert target.startswith("https://") or (ROOT / document).parent.joinpath(target).exists(), target


def test_the_readme_is_short():
    assert len(README.splitlines()) <= 120


@pytest.fixture
def hook(monkeypatch):
    """The metadata hook, without hatchling."""
    monkeypatch.setitem(
        sys.modules, "hatchling.metadata.plugin.interface", types.SimpleNamespace(MetadataHookInterface=object)
    )
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_package_index_gets_links_that_work_there(hook):
    text = "[a](docs/a.md), ![b](docs/b.png), [c](https://example.org)"
    assert hook.described(text, "") == "a, , [c](https://example.org)"
    there = (
        "[a](https://host/me/blob/main/docs/a.md), ![b](https://host/me/raw/main/docs/b.png), [c](https://example.org)"
    )
    assert hook.described(text, "https://host/me") == there
    assert hook.urls("") == {}
    assert hook.urls("https://host/me")["Issues"] == "https://host/me/issues"
    assert not re.findall(r"\]\((?!https)", hook.described(README, ""))


def test_the_version_is_the_same_everywhere():
    version = re.search(r'__version__ = "(.*)"', (ROOT / "multiloss/__init__.py").read_text())[1]
    assert f"version: {version}\n" in (ROOT / "CITATION.cff").read_text()
    assert f"\n## {version}" in (ROOT / "CHANGELOG.md").read_text()


def test_every_folder_of_tests_is_run_by_an_environment():
    folders = {f"tests/{path.parent.name}" for path in ROOT.glob("tests/*/test_*.py")}
    names = ("testenv", "testenv:docs", "testenv:libraries", "testenv:corpora")
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
