"""Reading a batch's input: JSON Lines and CSV, whatever stands in them."""

import io
import random

import pytest
from hypothesis import given
from hypothesis import strategies as some

from packetflow.cli.batch import lines as batch_lines
from packetflow.cli.batch.lines import CsvRecords, Input, JsonLines, Malformed
from packetflow.cli.failures import Failure

CONTRACT = {
    "type": "object",
    "properties": {"text": {"type": "string"}, "times": {"type": "integer"}, "loud": {"type": "boolean"}},
}


def json_lines(data: bytes):
    return JsonLines(Input(io.BytesIO(data).read))


def csv_records(data: bytes):
    return CsvRecords(Input(io.BytesIO(data).read), CONTRACT)


def outcomes(records):
    found = []
    for line in records:
        try:
            found.append((line.number, dict(records.payload(line))))
        except Malformed as error:
            found.append((line.number, str(error)))
    return found


def test_each_json_line_is_a_payload_and_blank_lines_do_not_count():
    assert outcomes(json_lines(b'{"a": 1}\n\n  \n{"a": 2}\r\n{"a": 3}')) == [
        (1, {"a": 1}),
        (4, {"a": 2}),
        (5, {"a": 3}),
    ]


def test_malformed_lines_are_named_with_their_reason_and_the_rest_goes_on():
    data = (
        b'{"a": 1}\n{"a": \n[1]\n\xff\xfe\n{"a": NaN}\n{"a": 1, "a": 2}\n' + b"[" * 100_000 + b'\n{"a": 2}\n'
    )
    found = outcomes(json_lines(data))
    assert [number for number, _ in found] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert found[0][1] == {"a": 1}
    assert found[1][1].startswith("not JSON:")
    assert found[2][1] == "expected a JSON object, given list"
    assert found[3][1] == "not UTF-8 at byte 1"
    assert found[4][1] == "not JSON: NaN is not JSON"
    assert found[5][1] == "not JSON: key 'a' is given twice"
    assert found[6][1] == "not JSON: nested too deeply"
    assert found[7][1] == {"a": 2}


def test_a_byte_order_mark_is_no_part_of_the_first_line():
    assert outcomes(json_lines(b'\xef\xbb\xbf{"a": 1}\n')) == [(1, {"a": 1})]


def test_a_line_that_is_too_long_is_dropped_and_the_rest_goes_on(monkeypatch):
    monkeypatch.setattr(batch_lines, "LONGEST", 1000)
    monkeypatch.setattr(batch_lines, "BLOCK", 64)
    data = b'{"a": 1}\n{"b": "' + b"x" * 5000 + b'"}\n{"a": 2}\n'
    records = json_lines(data)
    assert outcomes(records) == [(1, {"a": 1}), (2, "longer than 1000 bytes"), (3, {"a": 2})]
    assert [line.end for line in json_lines(data)][-1] == len(data)


@given(some.lists(some.binary(max_size=40).filter(lambda text: b"\n" not in text)), some.integers(1, 50))
def test_lines_are_the_same_however_the_input_is_cut_into_blocks(texts, block):
    data = b"\n".join(texts)
    stream = io.BytesIO(data)
    whole = [(line.number, line.text, line.history) for line in json_lines(data)]
    cut = JsonLines(Input(lambda size: stream.read(min(size, block))))
    assert [(line.number, line.text, line.history) for line in cut] == whole


def test_a_lines_history_depends_on_everything_before_it():
    first = [line.history for line in json_lines(b'{"a": 1}\n{"a": 2}\n')]
    other = [line.history for line in json_lines(b'{"a": 0}\n{"a": 2}\n')]
    longer = [line.history for line in json_lines(b'{"a": 1}\n{"a": 2}\n{"a": 3}\n')]
    assert first[1] != other[1]
    assert longer[:2] == first


def test_csv_cells_are_typed_by_the_contract_and_empty_cells_leave_their_field_out():
    found = outcomes(csv_records(b'text,times,loud\n12,3,true\n"a, b",,\n'))
    assert found == [(2, {"text": "12", "times": 3, "loud": True}), (3, {"text": "a, b"})]


def test_a_quoted_cell_may_span_lines():
    assert outcomes(csv_records(b'text,times\n"a\nb",1\nc,2\n')) == [
        (2, {"text": "a\nb", "times": 1}),
        (4, {"text": "c", "times": 2}),
    ]


def test_a_quote_that_is_never_closed_spoils_its_own_line_only():
    found = outcomes(csv_records(b'text,times\n"a,1\nb,2\nc,3\n'))
    assert found == [
        (2, "a quote is opened and never closed"),
        (3, {"text": "b", "times": 2}),
        (4, {"text": "c", "times": 3}),
    ]


def test_wrong_cells_are_named():
    found = outcomes(csv_records(b"text,times\na,many\nb\nc,1,2\nd,4\n"))
    assert found == [
        (2, "times: expected an integer, given 'many'"),
        (3, "1 cells, the header names 2 fields"),
        (4, "3 cells, the header names 2 fields"),
        (5, {"text": "d", "times": 4}),
    ]


@pytest.mark.parametrize("data", [b"", b"\n\n", b"text,text\n", b"text,,loud\n"])
def test_a_csv_header_has_to_name_each_field_once(data):
    with pytest.raises(Failure) as failed:
        list(csv_records(data))
    assert failed.value.exit == 2


def test_random_bytes_are_told_and_never_end_the_batch():
    seed = random.Random(47)
    for _ in range(200):
        data = bytes(seed.randrange(256) for _ in range(seed.randrange(400)))
        assert all(number for number, _ in outcomes(json_lines(data)))
        assert all(number for number, _ in outcomes(csv_records(b"text,times\n" + data)))
