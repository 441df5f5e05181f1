"""How `k=v` becomes a value by the capability's contract."""

import pytest

from packetflow.cli.failures import Failure
from packetflow.cli.typed import NotThatType, fields_of, parse, strict_json

CONTRACT = {
    "type": "object",
    "properties": {
        "text": {"type": "string"},
        "times": {"type": "integer"},
        "share": {"type": "number"},
        "loud": {"type": "boolean"},
        "note": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        "tags": {"type": "array", "items": {"type": "string"}},
        "sizes": {"type": "array", "items": {"type": "integer"}},
        "address": {"$ref": "#/$defs/Address"},
        "level": {"enum": ["low", "high"]},
        "anything": {},
    },
    "$defs": {"Address": {"type": "object", "properties": {"city": {"type": "string"}}}},
}


def fields(*words, stdin=""):
    return fields_of(words, CONTRACT, lambda: stdin)


@pytest.mark.parametrize("text", ["12", "true", "null", "[1]", "", '{"a": 1}', "a=b"])
def test_text_stays_text_where_the_contract_wants_text(text):
    assert fields(f"text={text}") == {"text": text}


def test_numbers_booleans_null_lists_and_objects_are_read_by_type():
    given = fields(
        "times=12",
        "share=0.5",
        "loud=true",
        "note=null",
        "sizes=[1, 2]",
        'address={"city": "Graz"}',
        "level=low",
    )
    assert given == {
        "times": 12,
        "share": 0.5,
        "loud": True,
        "note": None,
        "sizes": [1, 2],
        "address": {"city": "Graz"},
        "level": "low",
    }


def test_an_integer_fits_where_a_number_is_wanted():
    assert fields("share=3") == {"share": 3}


def test_a_field_of_a_list_may_be_given_item_by_item():
    assert fields("tags=a", "tags=b", "sizes=1", "sizes=2") == {"tags": ["a", "b"], "sizes": [1, 2]}


def test_json_is_forced_by_a_colon():
    assert fields('text:="12"', "anything:=[1]") == {"text": "12", "anything": [1]}


def test_a_field_comes_from_a_file_or_from_stdin(tmp_path):
    (tmp_path / "letter").write_text("dear Ana", encoding="utf-8")
    assert fields(f"text=@{tmp_path / 'letter'}", "note=-", stdin="from stdin") == {
        "text": "dear Ana",
        "note": "from stdin",
    }


def test_a_text_may_begin_with_an_at_sign():
    assert fields("text=@@ana") == {"text": "@ana"}


def test_all_faults_are_told_at_once():
    with pytest.raises(Failure) as failed:
        fields("times=many", "loud=yes", "word", "text=a", "text=b", "anything:=[")
    told = dict(failed.value.rows)
    assert told["times"] == "expected an integer, given 'many'"
    assert told["loud"] == "expected true or false, given 'yes'"
    assert told["word"].startswith("expected FIELD=VALUE")
    assert told["text"] == "given twice"
    assert told["anything"].startswith("expected JSON after :=")
    assert failed.value.exit == 2


def test_without_a_contract_words_are_typed_by_their_looks():
    assert fields_of(["a=1", "b=one", "c=true"], None, str) == {"a": 1, "b": "one", "c": True}


def test_true_is_no_number():
    with pytest.raises(NotThatType):
        parse("true", {"type": "integer"}, {})


@pytest.mark.parametrize("text", ["NaN", '{"a": 1, "a": 2}', "[" * 100_000, "Infinity"])
def test_what_json_does_not_know_is_refused(text):
    with pytest.raises(ValueError, match=r"."):
        strict_json(text)
