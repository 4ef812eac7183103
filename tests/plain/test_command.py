"""The command `multiloss`, as far as it goes without a worker: what it refuses before it starts one."""

import os
import subprocess
import sys

import pytest

import multiloss
from multiloss.check import CheckError, check_loss, cli
from multiloss.check.cli import main


@pytest.fixture(autouse=True)
def no_worker(monkeypatch):
    monkeypatch.setattr("multiloss.check.run.Workers", None)


REFUSED = {
    "unknown backend": (
        ["json:loads", "--backends", "mxnet"],
        "`backends` must be among tensorflow, jax, torch, numpy",
    ),
    "no python": (
        ["json:loads", "--backend", "jax=/no/python"],
        "`backends` must map jax to an interpreter. Received: '/",
    ),
    "no equals sign": (["json:loads", "--backend", "jax"], "`--backend` must be NAME=PYTHON. Received: 'jax'"),
    "unknown check": (["json:loads", "--only", "speed"], "`checks` must be among runs, value, gradient"),
    "no file of known": (["json:loads", "--known", "no_such.txt"], "No such file or directory: 'no_such.txt'"),
    "oracle missing": (["json:loads", "--oracle", "json:nothing"], "'json:nothing' could not be evaluated: NameError"),
    "search": (["json:loads", "--search", "-1"], "`search` must be an integer >= 0. Received: -1"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_checked_is_refused_in_one_line(name, capsys):
    arguments, message = REFUSED[name]
    assert main(["check", *arguments]) == 2
    out, err = capsys.readouterr()
    assert not out
    assert message in err
    assert err.startswith("multiloss check: ")
    assert err.count("\n") == 1


def test_what_cannot_be_written_or_known_is_refused_before_the_check(tmp_path, capsys):
    arguments = ["check", "keras.losses:Huber", "--backends", "torch", "--only", "value"]
    (tmp_path / "known.txt").write_text("config\n")
    for more, message in (
        (["--json", str(tmp_path / "none" / "x")], "`--json` must be a file in a folder that exists. Received: '"),
        (["--html", str(tmp_path)], "`--html` must be a file in a folder that exists. Received: '"),
        (["--known", str(tmp_path / "known.txt")], "a check of: runs, value. Received: 'config'"),
    ):
        assert main([*arguments, *more]) == 2
        assert message in capsys.readouterr().err


def test_an_oracle_file_that_exits_is_refused(tmp_path, capsys):
    (tmp_path / "o.py").write_text("import sys; sys.exit(0)")
    assert main(["check", "keras.losses:mean_squared_error", "--oracle", f"{tmp_path}/o.py:f"]) == 2
    assert "could not be imported: SystemExit: 0" in capsys.readouterr().err


def test_debug_shows_the_traceback(capsys):
    assert main(["check", "json:loads", "--only", "speed", "--debug"]) == 2
    assert "Traceback (most recent call last)" in capsys.readouterr().err


def test_without_any_backend_there_is_nothing_to_check(monkeypatch):
    monkeypatch.setattr("multiloss._backends.installed", lambda backend: False)
    with pytest.raises(CheckError, match=r"`backends` must be installed\. Received: none of tensorflow, jax, torch"):
        check_loss("keras.losses:Huber")
    with pytest.raises(CheckError, match="`backends` must name at least one"):
        check_loss("keras.losses:Huber", backends=[])


def test_a_backend_of_another_interpreter_joins_those_installed(monkeypatch):
    monkeypatch.setattr("multiloss.check.cli.installed", lambda backend: backend != "jax")
    assert cli._backends(None, ["jax=/p"]) == {"tensorflow": None, "torch": None, "jax": "/p"}
    assert cli._backends("torch, jax", []) == {"torch": None, "jax": None}


def test_the_version_is_told_without_keras(tmp_path):
    (tmp_path / "keras.py").write_text("raise ImportError('the version needs no Keras')")
    paths = [str(tmp_path), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    command = [sys.executable, "-m", "multiloss", "--version"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr, done.returncode) == (f"multiloss {multiloss.__version__}\n", "", 0)
