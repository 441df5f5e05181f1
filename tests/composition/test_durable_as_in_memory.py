"""What holds of a plan in memory holds of it in a durable run: the same tests, the same random plans, with the store beneath."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pytest

from packetflow.composition.building import composition
from tests.composition import desk, test_against_interpreter
from tests.composition.test_against_interpreter import *  # noqa: F403 - its tests, run again
from tests.composition.test_engine import *  # noqa: F403 - its tests, run again

# The random plans again take their time: every step is a commit.
test_the_engine_does_what_the_interpreter_does = pytest.mark.slow(
    test_against_interpreter.test_the_engine_does_what_the_interpreter_does
)
# What is otherwise in a durable run, each with a test of its own in test_durable_runs.py: the run goes on when the request is out
# of time; a Python function can't be stored; a place names the occurrence; the keys of what is stored are texts.
del test_a_run_that_is_out_of_time_is_undone_all_the_same  # noqa: F821
del test_a_condition_may_be_a_function_of_the_scope  # noqa: F821
del test_a_failed_chunk_is_tried_again_alone  # noqa: F821
del test_parts_are_reduced_by_themselves  # noqa: F821


@pytest.fixture(autouse=True)
def durable() -> Iterator[None]:
    """Every composition of these tests is durable."""
    made = partial(composition, durable=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(desk, "composition", made)
        patch.setattr(test_against_interpreter, "composition", made)
        yield
