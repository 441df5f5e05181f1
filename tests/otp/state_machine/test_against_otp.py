"""The reference model against OTP's own gen_statem, where Erlang is installed: what the model says is what OTP does."""

from __future__ import annotations

import ast
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.otp.state_machine.model import KINDS, PROGRAM, run

ERL = shutil.which("erl")
HERE = Path(__file__).parent

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(ERL is None, reason="Erlang is not installed (Debian's erlang-base)"),
]


def term(value: Any) -> str:
    """A program's part as an Erlang term."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return f"[{', '.join(map(term, value))}]"
    if isinstance(value, tuple):
        return f"{{{', '.join(map(term, value))}}}"
    return str(value)


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("erlang")
    source = HERE / "random_machine.erl"
    evaluate(folder, f'{{ok, _}} = compile:file("{source}", [{{outdir, "{folder}"}}])')
    return folder


def evaluate(folder: Path, expression: str) -> str:
    assert ERL is not None
    command = [ERL, "-noshell", "-pa", str(folder), "-eval", f"{expression}, halt()."]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def plain(entry: tuple[Any, int, int, int]) -> list[int]:
    kind = 8 if entry[0] == "enter" else KINDS.index(entry[0])
    return [kind, *entry[1:]]


@settings(max_examples=15, deadline=None)
@given(programs=st.lists(PROGRAM, min_size=20, max_size=20))
def test_the_model_says_what_otp_does(compiled: Path, programs: list[Any]) -> None:
    still = [
        (responses, enters, [step for step in steps if step[0] != "advance"])  # no timer fires there
        for responses, enters, steps in programs
    ]
    file = compiled / "programs"
    file.write_text("".join(f"{term(program)}.\n" for program in still))
    lines = evaluate(compiled, f'random_machine:main("{file}")').splitlines()
    assert len(lines) == len(still)
    for program, line in zip(still, lines, strict=True):
        log, answers, state, data = ast.literal_eval(line)
        model = run(program)
        assert [plain(entry) for entry in model.log] == log
        assert model.answers == dict(answers)
        assert (model.state, model.data) == (state, data)
