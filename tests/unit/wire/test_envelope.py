"""The envelope of Catga.Cluster: exactly what is written, and everything that may be read."""

import base64
import json
from datetime import datetime, timezone

import pytest

from catga_sync.errors import ErrorCode, SerializationError
from catga_sync.wire.envelope import (
    MAX_BATCH,
    STAMP_LENGTH,
    EnvelopeError,
    RequestEnvelope,
    RequestHead,
    ResponseEnvelope,
    read_batch,
    read_batch_response,
    stamped,
    well_formed_id,
    write_batch_response,
)
from tests.tables import every_row

DOTNET_TYPE = "Acme.Users.GetUserRequest, Acme.Users, Version=1.0.0.0, Culture=neutral, PublicKeyToken=null"
PAYLOAD = b'{"userId":"7"}'

GOOD = {
    "requestTypeName": "users.GetUser",
    "responseTypeName": "users.User",
    "payloadData": base64.b64encode(PAYLOAD).decode(),
    "sourceNodeId": "node-2",
    "requestId": "r-1",
    "timestamp": "2026-01-31T12:00:00Z",
}
NOON = 1769860800.0
GOOD_REPLY = {
    "requestId": "r-1",
    "isSuccess": True,
    "payloadData": base64.b64encode(PAYLOAD).decode(),
    "errorMessage": None,
    "processedByNodeId": "node-1",
    "processingTimeMs": 3,
}
ABSENT = type("Absent", (), {"__repr__": lambda self: "absent"})()


def changed(base, **changes):
    fields = {**base, **changes}
    return json.dumps({name: value for name, value in fields.items() if value is not ABSENT}).encode()


def read(**changes):
    return RequestEnvelope.decode(changed(GOOD, **changes))


def read_reply(**changes):
    return ResponseEnvelope.decode(changed(GOOD_REPLY, **changes))


# -- what is written ---------------------------------------------------------------------------------------------------


def test_a_request_is_written_exactly_so():
    envelope = RequestEnvelope("users.GetUser", "users.User", PAYLOAD, "r-1", "node-2", NOON + 0.25)
    assert envelope.encode() == (
        b'{"requestTypeName":"users.GetUser","responseTypeName":"users.User",'
        b'"payloadData":"eyJ1c2VySWQiOiI3In0=","sourceNodeId":"node-2","requestId":"r-1",'
        b'"timestamp":"2026-01-31T12:00:00.250000Z"}'
    )


def test_a_request_is_stamped_last():
    envelope = RequestEnvelope("users.GetUser", "users.User", PAYLOAD, "r-1", "node-2", NOON + 0.25)
    unstamped = RequestHead("users.GetUser", "users.User", "node-2").unstamped(PAYLOAD, "r-1")
    assert stamped(unstamped, NOON + 0.25) == envelope.encode()
    assert RequestEnvelope.decode(stamped(unstamped, NOON + 7)).timestamp == NOON + 7
    assert len(stamped(unstamped, 0.0)) == len(unstamped) + STAMP_LENGTH


def test_an_item_of_a_batch_may_have_a_traceparent_of_its_own():
    parent = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
    unstamped = RequestHead("users.GetUser", "users.User", None).unstamped(PAYLOAD, "r-1", parent)
    envelope = RequestEnvelope.decode(stamped(unstamped, NOON))
    assert envelope.traceparent == parent
    assert envelope.encode() == stamped(unstamped, NOON)
    assert RequestEnvelope.decode(envelope.encode()) == envelope


@every_row("value", ["null", "7", "[]", '"\u00e4"', '"%s"' % ("a" * 300)])
def test_a_property_of_that_name_that_is_no_traceparent_is_ignored(value):
    raw = RequestEnvelope("a", "b", b"", "r-1", None, NOON).encode()
    found = RequestEnvelope.decode(raw[:-1] + f',"traceparent":{value}}}'.encode())
    assert found == RequestEnvelope.decode(raw)


def test_a_request_from_nobody_in_particular_has_null_for_its_source():
    assert b'"sourceNodeId":null' in RequestEnvelope("a", "b", b"", "r-1", None, NOON).encode()


def test_a_success_is_written_exactly_so():
    reply = ResponseEnvelope("r-1", True, PAYLOAD, processed_by_node_id="node-1", processing_time_ms=3)
    assert reply.encode() == (
        b'{"requestId":"r-1","isSuccess":true,"payloadData":"eyJ1c2VySWQiOiI3In0=","errorMessage":null,'
        b'"processedByNodeId":"node-1","processingTimeMs":3}'
    )


def test_a_failure_is_written_exactly_so():
    reply = ResponseEnvelope("r-1", False, None, 'no "seat" left', ErrorCode.NOT_FOUND)
    assert reply.encode() == (
        b'{"requestId":"r-1","isSuccess":false,"payloadData":null,"errorMessage":"no \\"seat\\" left",'
        b'"processedByNodeId":null,"processingTimeMs":0,"errorCode":"NOT_FOUND"}'
    )


def test_an_application_s_own_code_is_written_as_it_is():
    assert b'"errorCode":"shop.sold_out"' in ResponseEnvelope("r", False, error_code="shop.sold_out").encode()


@every_row(
    "text", ["Grüße", "\u202eevil", "line\nbreak", "\x00", "\ud800", "emoji 🙂", "</script>", '"quoted"', "back\\slash"]
)
def test_what_is_written_is_ascii_on_one_line_and_comes_back_the_same(text):
    raw = ResponseEnvelope("r-1", False, None, text, text).encode()
    assert raw.isascii()
    assert b"\n" not in raw
    reply = ResponseEnvelope.decode(raw)
    assert reply.error_message == text


# -- what .NET writes --------------------------------------------------------------------------------------------------


def test_an_envelope_as_dotnet_writes_it_is_read():
    raw = (
        b'{\r\n  "RequestTypeName": "Acme.Users.GetUserRequest, Acme.Users, Version=1.0.0.0, Culture=neutral, '
        b'PublicKeyToken=null",\r\n  "ResponseTypeName": "Acme.Users.Page\\u00601[[Acme.User]], Acme.Users",\r\n'
        b'  "PayloadData": "eyJuYW1lIjoiPj4\\u002BIn0=",\r\n  "SourceNodeId": null,\r\n'
        b'  "RequestId": "0f8fad5b-d9cb-469f-a165-70867728950e",\r\n'
        b'  "Timestamp": "2026-01-31T12:00:00.1234567Z",\r\n  "TraceFlags": {"sampled": [true, null]}\r\n}'
    )
    envelope = RequestEnvelope.decode(raw)
    assert envelope.request_type_name == DOTNET_TYPE
    assert envelope.response_type_name == "Acme.Users.Page`1[[Acme.User]], Acme.Users"
    assert envelope.payload == b'{"name":">>>"}'
    assert envelope.source_node_id is None
    assert envelope.request_id == "0f8fad5b-d9cb-469f-a165-70867728950e"
    assert envelope.timestamp == pytest.approx(NOON + 0.1234567, abs=1e-6)


def test_an_answer_as_dotnet_writes_it_is_read():
    raw = (
        b'{"RequestId":"r-1","IsSuccess":false,"PayloadData":null,'
        b'"ErrorMessage":"\\u0022Gr\\u00FC\\u00DFe\\u0022 \\u003C\\u0026\\u003E \\u0027\\u002B\\u0027",'
        b'"ProcessedByNodeId":"node-1","ProcessingTimeMs":12,"Extra":1.5}'
    )
    assert ResponseEnvelope.decode(raw) == ResponseEnvelope("r-1", False, None, "\"Grüße\" <&> '+'", None, "node-1", 12)


@every_row("spell", [str.lower, str.upper, str.swapcase, str.title, lambda name: name[0].upper() + name[1:]])
def test_property_names_may_have_any_letter_case(spell):
    raw = json.dumps({spell(name): value for name, value in GOOD.items()}).encode()
    assert RequestEnvelope.decode(raw) == read()
    raw = json.dumps({spell(name): value for name, value in GOOD_REPLY.items()}).encode()
    assert ResponseEnvelope.decode(raw) == read_reply()


def test_names_may_be_escaped():
    raw = changed(GOOD).replace(b'"requestId"', b'"\\u0072equest\\u0049d"')
    assert RequestEnvelope.decode(raw) == read()


@every_row("value", [None, 1, "x", [1, [2]], {"a": {"b": None}}, True])
def test_properties_that_nobody_knows_are_ignored(value):
    assert read(**{"x-trace": value, "": value}) == read()
    assert read_reply(**{"x-trace": value, "": value}) == read_reply()


@every_row(
    ("text", "seconds"),
    [
        ("2026-01-31T12:00:00Z", 0.0),
        ("2026-01-31T12:00:00.Z", 0.0),
        ("2026-01-31T12:00:00.1Z", 0.1),
        ("2026-01-31T12:00:00.12Z", 0.12),
        ("2026-01-31T12:00:00.123Z", 0.123),
        ("2026-01-31T12:00:00.1234Z", 0.1234),
        ("2026-01-31T12:00:00.12345Z", 0.12345),
        ("2026-01-31T12:00:00.123456Z", 0.123456),
        ("2026-01-31T12:00:00.1234567Z", 0.1234567),
        ("2026-01-31T12:00:00.9999999Z", 0.9999999),
        ("2026-01-31T12:00:00", 0.0),
        ("2026-01-31T12:00:00.5", 0.5),
        ("2026-01-31T14:00:00+02:00", 0.0),
        ("2026-01-31T06:30:00.5-05:30", 0.5),
        ("2026-02-01T01:45:00+13:45", 0.0),
        ("2026-01-31T12:00:00+00:00", 0.0),
        ("2026-01-31T12:00:00-0000", 0.0),
        ("2026-01-31t12:00:00z", 0.0),
    ],
)
def test_a_timestamp_has_up_to_seven_digits_and_any_zone_or_none(text, seconds):
    assert read(timestamp=text).timestamp == pytest.approx(NOON + seconds, abs=1e-6)


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00", "0001-01-01T00:00:00Z"])
def test_the_default_of_dotnet_is_no_time(text):
    assert read(timestamp=text).timestamp is None


@pytest.mark.parametrize("text", ["0001-01-01T00:00:01", "0001-01-01T00:01:00+00:01", "9999-12-31T23:58:59-00:01"])
def test_the_earliest_and_the_latest_time_that_dotnet_has_are_times_that_can_be_shown(text):
    shown = datetime.fromtimestamp(read(timestamp=text).timestamp, timezone.utc)
    assert shown.year in (1, 9999)


@every_row("given", ["a", "A.b_c:d-9", "0" * 128, "0f8fad5bd9cb469fa16570867728950e", ":", "."])
def test_an_id_is_any_of_1_to_128_plain_characters(given):
    assert well_formed_id(given)
    assert read(requestId=given, sourceNodeId=given).request_id == given


BAD_IDS = [
    "", " ", "a b", "a\n", "\na", "a\x00", "é", "a/b", "a%20", "0" * 129, "x" * 2**20, "\u202ea", "\ud800", "\u0661",
    "x\n2026-01-01 ERROR forged", 7, True, ["a"], {"a": 1}, None, ABSENT,
]  # fmt: skip


@every_row("given", BAD_IDS)
def test_no_other_request_id_is_accepted(given):
    with pytest.raises(EnvelopeError) as caught:
        read(requestId=given)
    assert caught.value.request_id is None
    assert str(caught.value).startswith("requestId: ")
    assert len(str(caught.value)) < 200
    if isinstance(given, str):
        assert not well_formed_id(given)


@every_row("given", [each for each in BAD_IDS if each not in (None, ABSENT)])
def test_a_source_that_is_no_id_is_nobody(given):
    if isinstance(given, str):
        assert read(sourceNodeId=given).source_node_id is None
        return
    with pytest.raises(EnvelopeError, match=r"^sourceNodeId: ") as caught:
        read(sourceNodeId=given)
    assert caught.value.request_id == "r-1"


def test_a_source_may_be_absent():
    assert read(sourceNodeId=ABSENT).source_node_id is None
    assert read(sourceNodeId=None).source_node_id is None


# -- what is no envelope -----------------------------------------------------------------------------------------------

NO_ENVELOPES = [
    b"", b" ", b"{", b"}", b"null", b"true", b"7", b'"text"', b"[]", b"[{}]", b"{}{}", b"{} x", b"\x00", b"not json",
    b"{'a': 1}", b'{"a": 1,}', b"<xml/>", b"\xff\xfe{}", b"\xef\xbb\xbf{}", '{"a":1}'.encode("utf-16"),
    '{"a":1}'.encode("utf-32"), b'{"a":"\xff"}', b'{"a":"\xed\xa0\x80"}', b'{"a":NaN}', b'{"a":Infinity}',
    b'{"a":-Infinity}', b'{"a":1e999}', b'{"a":' + b"1" * 5000 + b"}", b'{"a":' + b"1" * 10**6 + b"}",
    b"[" * 10**5 + b"]" * 10**5, b'{"a":' * 10**5 + b"1" + b"}" * 10**5, b"[" * 10**6, b'{"a":' * 10**6,
    b'{"a":"\n"}', b'{"a":"\\ud83"}',
]  # fmt: skip


@every_row("raw", NO_ENVELOPES)
@every_row("kind", [RequestEnvelope, ResponseEnvelope])
def test_what_is_no_json_object_is_no_envelope(kind, raw):
    with pytest.raises(EnvelopeError) as caught:
        kind.decode(raw)
    assert caught.value.request_id is None
    assert str(caught.value).startswith("envelope: ")
    assert len(str(caught.value)) < 200


def test_an_envelope_error_is_a_serialization_error():
    with pytest.raises(SerializationError):
        RequestEnvelope.decode(b"")


@every_row("name", ["requestTypeName", "responseTypeName", "payloadData", "timestamp"])
@every_row("value", [None, ABSENT, 7, 1.5, True, [], {}, ["x"]])
def test_a_property_that_is_missing_or_of_another_type_is_named(name, value):
    with pytest.raises(EnvelopeError, match=f"^{name}: ") as caught:
        read(**{name: value})
    assert caught.value.request_id == "r-1"


@every_row("name", ["requestTypeName", "responseTypeName"])
@every_row("value", ["", "x" * 1025, "x" * 2**20, "a\nb", "a\x00", "\ud800", "a\u202eb", "\u2028"])
def test_a_type_name_is_1_to_1024_printable_characters(name, value):
    with pytest.raises(EnvelopeError, match=f"^{name}: "):
        read(**{name: value})
    assert read(**{name: "x" * 1024})


@pytest.mark.parametrize("value", ["=", "==", "YWI=="])
def test_the_padding_of_a_payload_is_counted(value):
    with pytest.raises(EnvelopeError, match=r"^payloadData: not base64"):
        read(payloadData=value)


@every_row("value", ["a", "ab", "abc", "ab==cd==", "a b=", "YQ==\n", "YQ", "ÄÖ==", "YQ-_", "\x00"])
def test_a_payload_is_strict_base64(value):
    with pytest.raises(EnvelopeError, match=r"^payloadData: not base64"):
        read(payloadData=value)
    with pytest.raises(EnvelopeError, match=r"^payloadData: not base64"):
        read_reply(payloadData=value)


def test_a_payload_may_be_empty():
    assert read(payloadData="").payload == b""


@every_row(
    "text",
    [
        "", "now", "2026-01-31", "12:00:00", "1769860800", "2026-13-01T00:00:00Z", "2026-02-30T00:00:00Z",
        "2026-01-31T24:00:01Z", "2026-01-31T12:60:00Z", "2026-01-31T12:00:61Z", "0000-01-01T00:00:00Z",
        "2026-01-31T12:00:00ZZ", "2026-01-31T12:00:00Z\n", " 2026-01-31T12:00:00Z", "2026-01-31T12:00:00 Z",
        "2026-01-31T12:00:00,5Z", "2026-01-31T12:00:00.1234567890Z", "2026-1-31T12:00:00Z", "-026-01-31T12:00:00Z",
        "\uff12\uff10\uff12\uff16-01-31T12:00:00Z", "\u0661\u0660\u0661\u0660-01-31T12:00:00Z",
        "2026-01-31T12:00:00UTC",
        "2026-01-31T12:00:00Z" + " " * 10**5, "9" * 10**5, "/Date(1769860800000)/",
        "2026-01-31T12:00:00+99:00", "2026-01-31T12:00:00+24:00", "2026-01-31T12:00:00+01:99",
        "0001-01-01T00:00:00+00:01", "9999-12-31T23:59:59-23:59",
    ],
)  # fmt: skip
def test_a_timestamp_that_is_no_time_is_refused(text):
    with pytest.raises(EnvelopeError, match=r"^timestamp: ") as caught:
        read(timestamp=text)
    assert caught.value.request_id == "r-1"
    assert len(str(caught.value)) < 200


@every_row(
    "raw",
    [
        b'{"requestId":"a","requestId":"a"}',
        b'{"requestId":"a","REQUESTID":"b"}',
        b'{"requestId":"a","\\u0072equestId":"a"}',
        b'{"requestId":"a","x":1,"x":1}',
        b'{"requestId":"a","x":{"y":1,"y":2}}',
        b'{"requestId":"a","requestId":"a","payloadData":null}',
    ],
)
@every_row("kind", [RequestEnvelope, ResponseEnvelope])
def test_a_property_that_stands_twice_in_it_makes_it_no_envelope(kind, raw):
    with pytest.raises(EnvelopeError, match="twice") as caught:
        kind.decode(raw)
    assert caught.value.request_id is None


# -- answers -----------------------------------------------------------------------------------------------------------


def test_what_may_be_absent_from_an_answer_may_be_null_too():
    least = ResponseEnvelope("r-1", True)
    assert ResponseEnvelope.decode(b'{"requestId":"r-1","isSuccess":true}') == least
    nulls = dict.fromkeys(["payloadData", "errorMessage", "processedByNodeId", "processingTimeMs", "errorCode"])
    assert ResponseEnvelope.decode(changed({"requestId": "r-1", "isSuccess": True, **nulls})) == least


@pytest.mark.parametrize(("name", "code"), [("NOT_FOUND", ErrorCode.NOT_FOUND), ("shop.sold_out", "shop.sold_out")])
def test_a_code_that_is_one_of_ours_becomes_that_member(name, code):
    assert read_reply(isSuccess=False, errorCode=name).error_code == code


@every_row(
    ("name", "values"),
    [
        ("requestId", [None, ABSENT, 7, True, []]),
        ("isSuccess", [None, ABSENT, 1, 0, "true", []]),
        ("payloadData", [7, True, {}]),
        ("errorMessage", [7, [], True]),
        ("errorCode", [7, [], True]),
        ("processedByNodeId", [7, [], True]),
        ("processingTimeMs", ["3", 1.5, True, [], -1, 2**63, -(10**30)]),
    ],
)
def test_an_answer_with_a_property_of_another_type_is_no_answer(name, values):
    for value in values:
        with pytest.raises(EnvelopeError, match=f"^{name}: "):
            read_reply(**{name: value})


def test_what_a_peer_calls_itself_and_its_code_is_cut_to_128_characters():
    reply = read_reply(processedByNodeId="n" * 1000, isSuccess=False, errorCode="c" * 1000)
    assert (len(reply.processed_by_node_id), len(reply.error_code)) == (128, 128)


@pytest.mark.parametrize("name", ["errorCode", "processedByNodeId"])
def test_what_a_peer_calls_itself_and_its_code_has_no_control_characters(name):
    try:
        reply = read_reply(isSuccess=False, **{name: "x\n2026-01-01 ERROR forged"})
    except EnvelopeError:
        return
    assert f"{reply.error_code}{reply.processed_by_node_id}".isprintable()


@pytest.mark.parametrize("kind", [RequestEnvelope, ResponseEnvelope])
def test_an_envelope_cannot_be_changed(kind):
    envelope = read() if kind is RequestEnvelope else read_reply()
    with pytest.raises(AttributeError):
        envelope.request_id = "x"


def test_that_a_response_is_final_is_written_only_where_it_is_and_is_false_for_who_does_not_say_so():
    assert b"final" not in ResponseEnvelope("r", False).encode()
    assert ResponseEnvelope.decode(ResponseEnvelope("r", False, final=True).encode()).final is True
    assert read_reply(isSuccess=False).final is False


# -- how many values ---------------------------------------------------------------------------------------------------


@every_row("read_one", [read, read_reply])
@every_row("many", [[[]] * 600, [0] * 1000, [{"a": 1}] * 400, {str(number): 0 for number in range(500)}])
def test_an_envelope_of_more_than_a_thousand_values_is_refused_before_it_is_parsed(read_one, many):
    with pytest.raises(EnvelopeError, match="more than 1000 values"):
        read_one(more=many)


@every_row("read_one", [read, read_reply])
@every_row("some", [[0] * 900, ",:[{" * 10_000, {"a": '",",",' * 1000}])
def test_what_is_ignored_in_an_envelope_may_have_some_values_and_any_text(read_one, some):
    assert read_one(more=some).request_id == "r-1"


def test_names_full_of_what_separates_values_are_no_values():
    assert read(requestTypeName="[" * 512, responseTypeName="," * 512).request_id == "r-1"


def test_a_batch_may_have_all_its_requests_and_all_their_responses():
    request = RequestEnvelope(DOTNET_TYPE, DOTNET_TYPE, PAYLOAD, "r-1", "node-2", NOON).encode()
    assert len(read_batch(b'{"requests":[%b]}' % b",".join([request] * MAX_BATCH))) == MAX_BATCH
    reply = ResponseEnvelope("r-1", True, PAYLOAD, "no", ErrorCode.UNKNOWN, "node-2", 7, final=True).encode("1")
    assert len(read_batch_response(write_batch_response([reply] * MAX_BATCH))) == MAX_BATCH


@every_row("read_all", [read_batch, read_batch_response])
@every_row("item", [b"{}", b'{"x":[0,0,0,0]}'])
def test_a_batch_of_more_values_than_its_requests_need_is_refused_before_it_is_parsed(read_all, item):
    with pytest.raises(EnvelopeError, match="more than 200000 values"):
        read_all(b'{"requests":[%b]}' % b",".join([item] * 110_000))
