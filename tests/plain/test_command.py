"""The command `multiloss`, as far as it goes without a worker: what it refuses before it starts one."""

import os
import re
import shlex
import subprocess
import sys

import pytest

import multiloss
from multiloss.check import CheckError, Report, check_loss, cli
from multiloss.check.cli import main
from multiloss.check.report import Cell


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
    "unknown check": (["json:loads", "--only", "speed"], "`checks` must be among runs, value, finite, gradient"),
    "no file of known": (["json:loads", "--known", "no_such.txt"], "No such file or directory: 'no_such.txt'"),
    "oracle missing": (["json:loads", "--oracle", "json:nothing"], "'json:nothing' could not be evaluated: NameError"),
    "search": (["json:loads", "--search", "-1"], "`search` must be an integer >= 0. Received: -1"),
    "kinds": (
        ["json:loads", "--fail-on", "wrong,slow"],
        "`--fail-on` must be among wrong, crash, nan, setting, separated by commas. Received: 'slow'",
    ),
    "no kinds": (["json:loads", "--fail-on", ""], "separated by commas. Received: ''"),
    "no checks": (["json:loads", "--only", "value,"], "`checks` must be among runs, value, finite, gradient"),
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


def report_of(*cells):
    return Report("m:loss", None, "masks", 0, "", {"jax": "1"}, cells, {}, 1.0)


@pytest.fixture
def checked(monkeypatch):
    """What `check_loss` was called with; it returns a report in which only a setting gets lost."""
    calls = []

    def instead(*positional, progress, **keywords):
        calls.append((positional, keywords))
        names = ("mask", "value", "gradient", "config")
        return report_of(*[Cell(name, "jax", "fail", kind="setting", reproduce=f"again {name}") for name in names])

    monkeypatch.setattr(cli, "check_loss", instead)
    return calls


def test_what_is_not_given_keeps_the_defaults_of_check_loss(checked):
    assert main(["check", "m:loss"]) == 1
    assert checked == [(("m:loss", None), {})]


def test_options_are_passed_on(checked):
    line = (
        "check m:loss --oracle o:f --inputs masks --backends jax --seed 7 --only value,mask --only save "
        "--skip 'save, fit' --search 9 --known k.txt --timeout 8 --memory 0.5 --metric"
    )
    assert main(shlex.split(line)) == 1
    assert checked == [
        (
            ("m:loss", "o:f"),
            {
                "inputs": "masks",
                "backends": {"jax": None},
                "seed": 7,
                "checks": ["value", "mask", "save"],
                "skip": ["save", "fit"],
                "search": 9,
                "known": "k.txt",
                "timeout": 8.0,
                "memory": 0.5,
                "metric": True,
            },
        )
    ]


def test_fail_on_chooses_what_gives_exit_code_1(checked, capsys):
    assert main(["check", "m:loss", "--fail-on", "wrong, crash"]) == 0
    assert capsys.readouterr().out.startswith("OK: ")
    assert main(["check", "m:loss", "--fail-on", "wrong,setting"]) == 1
    assert capsys.readouterr().out.startswith("FAILS: ")


def test_all_failures_are_shown_on_demand(checked, capsys):
    main(["check", "m:loss"])
    out = capsys.readouterr().out
    assert (out.count("  again "), "1 more failure: config (jax). --all-failures shows all." in out) == (3, True)
    main(["check", "m:loss", "--all-failures"])
    assert capsys.readouterr().out.count("  again ") == 4


def test_files_hold_the_report(checked, tmp_path):
    main(["check", "m:loss", "--json", str(tmp_path / "json"), "--html", str(tmp_path / "html")])
    report = cli.check_loss(progress=None)
    assert (tmp_path / "json").read_text() == report.json()
    assert (tmp_path / "html").read_text() == report.html()


def test_an_interrupt_ends_in_one_line(monkeypatch, capsys):
    def interrupted(*positional, **keywords):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "check_loss", interrupted)
    assert main(["check", "m:loss"]) == 130
    assert capsys.readouterr() == ("", "multiloss check: interrupted\n")


def test_multiloss_alone_shows_the_help(capsys):
    assert main([]) == 0
    out, err = capsys.readouterr()
    assert not err
    assert out.startswith("usage: multiloss ")
    assert "check any Keras loss on every backend" in out


@pytest.mark.parametrize("arguments", [["--version"], ["check", "--version"]])
def test_the_version(arguments, capsys):
    with pytest.raises(SystemExit, match=r"^0$"):
        main(arguments)
    assert capsys.readouterr().out == f"multiloss {multiloss.__version__}\n"


def test_the_help_has_groups_and_examples_that_the_command_takes(checked, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)  # one writes a file
    with pytest.raises(SystemExit, match=r"^0$"):
        main(["check", "--help"])
    out = capsys.readouterr().out
    groups = re.findall(r"^([a-z ]+):$", out, re.MULTILINE)
    assert groups == [
        *("options", "what is checked", "where", "what is written", "which checks run", "what makes it fail"),
        "examples",
    ]
    examples = re.findall(r"^  multiloss (.*)", out, re.MULTILINE)
    assert len(examples) == 4
    for example in examples:
        assert main(shlex.split(example)) == 1
    assert len(checked) == 4


class Clock:
    """The time, in place of the module."""

    def __init__(self):
        self.now = 1000.0

    def monotonic(self):
        return self.now


def test_progress_off_a_terminal_is_a_line_every_ten_seconds(monkeypatch, capsys):
    clock = Clock()
    monkeypatch.setattr(cli, "time", clock)
    progress = cli._Progress("multiloss check")
    for done in range(1, 96):  # 24 seconds
        clock.now += 0.25
        progress("jax", done, 95)
        progress("torch", 1, 80)
    progress.clear()
    assert capsys.readouterr() == (
        "",
        "multiloss check: jax 40/95  torch 1/80 requests after 10 s\n"
        "multiloss check: jax 80/95  torch 1/80 requests after 20 s\n",
    )


def test_progress_on_a_terminal_is_one_line_that_fits(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "20")
    progress = cli._Progress("multiloss check")
    progress("jax", 1, 10)
    progress("tensorflow", 2, 20)
    progress.clear()
    assert capsys.readouterr().err == "\r\033[Kjax 1/10\r\033[Kjax 1/10  tensorflo\r\033[K"
