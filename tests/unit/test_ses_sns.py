"""Whether an SNS message is believed: certificates, signatures, topics, times; and what a confirmation leads to."""

from __future__ import annotations

import base64
import json
import socket
import threading
import uuid
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA1, SHA256
from hypothesis import example, given
from hypothesis import strategies as st

from mailglass import clock, telemetry
from mailglass.errors import ConfigError, ProviderCallError, SignatureError, SignatureErrorType, WebhookBodyError
from mailglass.providers.base import WebhookRequest
from mailglass.providers.http import HTTPAnswer
from mailglass.providers.ses import SESOptions, SESProvider
from mailglass.providers.ses.certificates import Certificates, check_url, fetch_certificate, pem_of
from mailglass.providers.ses.sns import MESSAGE_ID, TOPIC, TYPE
from mailglass.settings import Secret
from mailglass.testing.lab.ses import certificate

KEY, OTHER_KEY = rsa.generate_private_key(65537, 2048), rsa.generate_private_key(65537, 2048)
URL = "https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-0123456789abcdef.pem"
OTHER_URL = URL.replace("0123", "ffff")
PEMS = {URL: certificate(KEY).encode(), OTHER_URL: certificate(OTHER_KEY).encode()}
ARN = "arn:aws:sns:eu-west-1:123456789012:ses-events"
OLD_ARN = "arn:aws:sns:us-east-1:123456789012:ses-old"
E = SignatureErrorType
NOTIFICATION = ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type")
CONFIRMATION = ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type")


class Fetcher:
    """Serves certificates and counts how often it is asked."""

    def __init__(self, pems: dict[str, bytes] = PEMS) -> None:
        self.pems = pems
        self.asked: Counter[str] = Counter()

    def __call__(self, url: str) -> bytes:
        self.asked[url] += 1
        if url not in self.pems:
            raise ProviderCallError("fetch", status=404)
        return self.pems[url]


def provider(fetch: Callable[[str], bytes] | None = None, **more: Any) -> SESProvider:
    options = SESOptions(region="eu-west-1", topic_arns=(OLD_ARN, ARN), **more)
    return SESProvider("acme", options, fetch or Fetcher())


def stamp(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def message(kind: str = "Notification", **change: Any) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "Type": kind,
        "MessageId": str(uuid.uuid4()),
        "TopicArn": ARN,
        "Message": '{"eventType":"Send","mail":{}}\n',
        "Timestamp": stamp(clock.now()),
        "SignatureVersion": "2",
        "SigningCertURL": URL,
        "UnsubscribeURL": "https://sns.eu-west-1.amazonaws.com/?Action=Unsubscribe",
    }
    if kind != "Notification":
        fields |= {"Token": "2336412f37", "SubscribeURL": "https://sns.eu-west-1.amazonaws.com/?Action=Confirm"}
    return fields | change


def sign(fields: dict[str, Any], key: rsa.RSAPrivateKey = KEY, names: tuple[str, ...] = ()) -> dict[str, Any]:
    # by AWS's own description, written apart from the room's code
    order = names or (NOTIFICATION if fields.get("Type") == "Notification" else CONFIRMATION)
    signed = "".join(f"{name}\n{fields[name]}\n" for name in order if name in fields)
    digest = SHA1() if fields["SignatureVersion"] == "1" else SHA256()
    signature = key.sign(signed.encode("utf-8", "surrogatepass"), PKCS1v15(), digest)
    return fields | {"Signature": base64.b64encode(signature).decode()}


def headers_of(fields: dict[str, Any]) -> dict[str, str]:
    twins = {TYPE: "Type", MESSAGE_ID: "MessageId", TOPIC: "TopicArn"}
    return {header: str(fields.get(name)) for header, name in twins.items()}


def posted(fields: dict[str, Any], headers: dict[str, str] | None = None) -> WebhookRequest:
    return WebhookRequest(headers_of(fields) if headers is None else headers, json.dumps(fields).encode())


def why(request: WebhookRequest, room: SESProvider | None = None) -> SignatureErrorType | None:
    try:
        (room or provider()).verify(request)
    except SignatureError as error:
        return error.type
    return None


@pytest.mark.parametrize("kind", ["Notification", "SubscriptionConfirmation", "UnsubscribeConfirmation"])
def test_every_type_of_message_that_aws_signed_is_believed(kind: str) -> None:
    assert why(posted(sign(message(kind)))) is None


def test_a_subject_is_signed_when_there_is_one() -> None:
    signed = sign(message(Subject="Amazon SES Email Event Notification", Message="größer\n世界"))
    assert why(posted(signed)) is None
    assert why(posted(signed | {"Subject": "Another"})) is E.BAD_SIGNATURE
    del signed["Subject"]
    assert why(posted(signed)) is E.BAD_SIGNATURE


def test_fields_that_are_not_signed_cannot_shift_what_is() -> None:
    extra = {"Token": "t", "SubscribeURL": "https://example.com/"}
    assert why(posted(sign(message()) | extra)) is None
    # signed as if they belonged to a notification
    names = ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type")
    assert why(posted(sign(message() | extra, names=names))) is E.BAD_SIGNATURE


FORGERIES: list[tuple[str, dict[str, Any], SignatureErrorType]] = [
    ("message", {"Message": "{}"}, E.BAD_SIGNATURE),
    ("time", {"Timestamp": "2026-01-02T00:00:00.000Z"}, E.BAD_SIGNATURE),
    ("id", {"MessageId": str(uuid.uuid4())}, E.BAD_SIGNATURE),
    ("our other topic", {"TopicArn": OLD_ARN}, E.BAD_SIGNATURE),
    ("a stranger's topic", {"TopicArn": ARN + "x"}, E.BAD_CREDENTIALS),
    ("no topic", {"TopicArn": None}, E.BAD_CREDENTIALS),
    ("type", {"Type": "SubscriptionConfirmation", "Token": "t", "SubscribeURL": "u"}, E.BAD_SIGNATURE),
    ("unknown type", {"Type": "Weather"}, E.BAD_SIGNATURE),
    ("no type", {"Type": None}, E.BAD_SIGNATURE),
    ("another certificate", {"SigningCertURL": OTHER_URL}, E.BAD_SIGNATURE),
    ("no certificate", {"SigningCertURL": URL.replace("0123", "aaaa")}, E.MALFORMED_KEY),
    ("no certificate URL", {"SigningCertURL": None}, E.MISSING_HEADER),
    ("no signature", {"Signature": None}, E.MISSING_HEADER),
    ("empty signature", {"Signature": ""}, E.MISSING_HEADER),
    ("signature is no base64", {"Signature": "ü!"}, E.MALFORMED_HEADER),
    ("signature of another length", {"Signature": "QUJD"}, E.BAD_SIGNATURE),
    ("no version", {"SignatureVersion": None}, E.MISSING_HEADER),
    ("version 1 claimed", {"SignatureVersion": "1"}, E.BAD_SIGNATURE),
    ("version 3", {"SignatureVersion": "3"}, E.MALFORMED_HEADER),
    ("version as a number", {"SignatureVersion": 2}, E.MISSING_HEADER),
]


@pytest.mark.parametrize(("change", "kind"), [row[1:] for row in FORGERIES], ids=[row[0] for row in FORGERIES])
def test_a_forged_message_is_refused(change: dict[str, Any], kind: SignatureErrorType) -> None:
    assert why(posted(sign(message()) | change)) is kind


@pytest.mark.parametrize("name", [TYPE, MESSAGE_ID, TOPIC])
def test_headers_must_be_there_and_name_the_same_message_as_the_body(name: str) -> None:
    fields = sign(message())
    headers = headers_of(fields)
    assert why(posted(fields, {key: value for key, value in headers.items() if key != name})) is E.MISSING_HEADER
    assert why(posted(fields, headers | {name: OLD_ARN})) is E.BAD_SIGNATURE


@pytest.mark.parametrize("body", [b"", b"[]", b"7", b"{", b"\xff", b"[" * 100_000, b'{"Type":"Notification"}'])
def test_a_body_that_is_no_message_is_refused(body: bytes) -> None:
    assert why(WebhookRequest(headers_of(message()), body)) in (E.BAD_SIGNATURE, E.BAD_CREDENTIALS)


def test_a_message_that_no_utf8_can_carry_is_refused() -> None:
    assert why(posted(sign(message(Message="half a pair \ud83d")))) is E.BAD_SIGNATURE


def test_a_key_of_another_kind_is_refused() -> None:
    assert why(posted(sign(message(), OTHER_KEY))) is E.BAD_SIGNATURE
    assert why(posted(sign(message())), provider(Fetcher({URL: b"-----BEGIN CERTIFICATE-----"}))) is E.MALFORMED_KEY
    assert why(posted(sign(message())), provider(Fetcher({URL: b"x" * 100_000}))) is E.MALFORMED_KEY
    curve: Any = ec.generate_private_key(ec.SECP256R1())
    assert why(posted(sign(message())), provider(Fetcher({URL: certificate(curve).encode()}))) is E.MALFORMED_KEY
    short = rsa.generate_private_key(65537, 1024)
    small = provider(Fetcher({URL: certificate(short).encode()}))
    assert why(posted(sign(message(), short)), small) is E.MALFORMED_KEY


def test_sha1_is_believed_only_where_the_account_asks_for_it() -> None:
    request = posted(sign(message(SignatureVersion="1")))
    fetch = Fetcher()
    assert why(request, provider(fetch)) is E.BAD_SIGNATURE
    assert not fetch.asked
    assert why(request, provider(allow_signature_v1=True)) is None
    assert why(posted(sign(message())), provider(allow_signature_v1=True)) is None
    # a SHA-256 signature under the word "1"
    assert (
        why(posted(sign(message()) | {"SignatureVersion": "1"}), provider(allow_signature_v1=True)) is E.BAD_SIGNATURE
    )


@pytest.mark.parametrize(
    ("seconds", "kind"),
    [(-3590, None), (-3700, E.TIMESTAMP_SKEW), (3590, None), (3700, E.TIMESTAMP_SKEW), (-90_000, E.TIMESTAMP_SKEW)],
)
def test_a_message_is_believed_for_an_hour(seconds: float, kind: SignatureErrorType | None) -> None:
    assert why(posted(sign(message(Timestamp=stamp(clock.now() + timedelta(seconds=seconds)))))) is kind


def test_how_long_a_message_is_believed_can_be_set() -> None:
    old = posted(sign(message(Timestamp=stamp(clock.now() - timedelta(seconds=90)))))
    assert why(old, provider(webhook_tolerance=60.0)) is E.TIMESTAMP_SKEW
    assert why(old, provider(webhook_tolerance=120.0)) is None


def test_a_time_that_is_none_is_refused() -> None:
    assert why(posted(sign(message(Timestamp="yesterday")))) is E.MALFORMED_HEADER


def test_an_account_without_topics_can_prove_nothing() -> None:
    with pytest.raises(ConfigError) as error:
        SESProvider("acme", SESOptions(region="eu-west-1")).verify(posted(sign(message())))
    assert error.value.key == "accounts.acme.topic_arns"


def test_the_same_message_posted_again_is_known_by_its_id() -> None:
    fields = sign(message())
    request = posted(fields)
    assert provider().delivery_key(request) == fields["MessageId"]


BAD_URLS = [
    URL.replace("https", "http"),
    URL.replace("sns.", "sns.evil."),
    URL.replace("amazonaws.com", "amazonaws.com.evil.example"),
    URL.replace("amazonaws.com", "amazonaws.com.cn.evil"),
    URL.replace("sns.eu-west-1.amazonaws.com", "evil.example/sns.eu-west-1.amazonaws.com"),
    URL.replace("sns.eu-west-1", "sns.eu-west-1.evil"),
    URL.replace("sns.eu-west-1", "xsns.eu-west-1"),
    URL.replace("sns.eu-west-1", "sns.eu"),
    URL.replace("sns.eu-west-1", "sns.s3-eu-west-1"),
    URL.replace("sns.eu-west-1", "sns.s3-accelerate"),
    URL.replace("sns.eu-west-1", "sns.s3-website-eu-west-1"),
    URL.replace("sns.", "user@sns."),
    URL.replace("sns.", "user:pw@sns."),
    URL.replace("sns.eu", "evil.example#@sns.eu"),
    URL.replace(".com/", ".com:443/"),
    URL.replace(".com/", ".com:8443/"),
    URL.replace(".com/", ".com\\@evil.example/"),
    URL.replace(".com/", ".com./"),
    URL.replace(".pem", ".pem?x=1"),
    URL.replace(".pem", ".pem#x"),
    URL.replace(".pem", ".pem\n"),
    URL.replace(".pem", ".txt"),
    URL.replace("/Simple", "/../Simple"),
    URL.replace("/Simple", "/x/Simple"),
    URL.replace("/Simple", "//Simple"),
    URL.replace("0123", "..%2f"),
    URL.replace("https", "HTTPS"),
    " " + URL,
    "https://sns.eu-west-1.amazonaws.com/",
    "https://127.0.0.1/SimpleNotificationService-0123.pem",
    "https://[::1]/SimpleNotificationService-0123.pem",
    "https://[bad/SimpleNotificationService-0123.pem",
    "https://sns.eu-west-1.amazonaws.com:x/SimpleNotificationService-0123.pem",
    "file:///etc/passwd",
    "SimpleNotificationService-0123.pem",
]


@pytest.mark.parametrize("url", BAD_URLS)
def test_a_certificate_from_elsewhere_is_never_asked_for(url: str) -> None:
    fetch = Fetcher()
    assert why(posted(sign(message(SigningCertURL=url))), provider(fetch)) is E.MALFORMED_KEY
    assert not fetch.asked


@pytest.mark.parametrize(
    "host",
    [
        "sns.us-gov-west-1.amazonaws.com",
        "sns.cn-north-1.amazonaws.com.cn",
        "sns.ap-southeast-7.amazonaws.com",
        "sns.mx-central-1.amazonaws.com",
    ],
)
def test_aws_other_partitions_and_regions_have_certificates_too(host: str) -> None:
    check_url(f"https://{host}/SimpleNotificationService-0123abcdef.pem")


@given(st.text(max_size=80) | st.sampled_from(BAD_URLS).map(lambda url: url[::-1]))
@example(URL + "\x00")
def test_only_urls_of_one_shape_pass(url: str) -> None:
    with pytest.raises(SignatureError):
        check_url(url)


def test_nothing_is_fetched_for_a_stranger() -> None:
    fetch = Fetcher()
    room = provider(fetch)
    for change in ({"TopicArn": ARN + "x"}, {"SignatureVersion": "1"}, {"Signature": "!"}, {"Type": "x"}):
        assert why(posted(sign(message()) | change), room) is not None
    assert why(posted(sign(message()), {}), room) is E.MISSING_HEADER
    assert not fetch.asked


def test_a_certificate_is_fetched_once_and_kept() -> None:
    fetch = Fetcher()
    room = provider(fetch)
    for _ in range(5):
        assert why(posted(sign(message())), room) is None
    assert fetch.asked == {URL: 1}


def test_many_who_need_one_certificate_wait_for_one_fetch() -> None:
    asked: list[str] = []
    everybody, go = threading.Barrier(9), threading.Event()

    def slow(url: str) -> bytes:
        asked.append(url)
        assert go.wait(60)
        return PEMS[url]

    certificates = Certificates(slow)
    found: list[Any] = []

    def ask() -> None:
        everybody.wait(60)
        found.append(certificates.key(URL))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    everybody.wait(60)
    go.set()
    for thread in threads:
        thread.join(60)
    assert asked == [URL] and len(found) == 8


@pytest.fixture
def ticking(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    start, passed = clock.monotonic(), [0.0]
    monkeypatch.setattr(clock, "monotonic", lambda: start + passed[0])

    def advance(seconds: float) -> None:
        passed[0] += seconds

    return advance


def test_a_missing_certificate_is_not_asked_for_again_for_a_minute(ticking: Callable[[float], None]) -> None:
    fetch = Fetcher({})
    certificates = Certificates(fetch)
    for seconds, asked in ((0, 1), (55, 1), (10, 2)):
        ticking(seconds)
        with pytest.raises(SignatureError):
            certificates.key(URL)
        assert fetch.asked[URL] == asked


def test_an_outage_is_no_forgery_and_soon_asked_about_again(ticking: Callable[[float], None]) -> None:
    down = True

    def fetch(url: str) -> bytes:
        if down:
            raise ProviderCallError("fetch", retryable=True)
        return PEMS[url]

    certificates = Certificates(fetch)
    for _ in range(2):
        with pytest.raises(ProviderCallError) as error:
            certificates.key(URL)
        assert error.value.retryable
    down = False
    ticking(6)
    assert certificates.key(URL).public_numbers() == KEY.public_key().public_numbers()


def test_a_fetcher_that_breaks_leaves_nobody_waiting(ticking: Callable[[float], None]) -> None:
    def broken(url: str) -> bytes:
        raise KeyboardInterrupt

    certificates = Certificates(broken)
    with pytest.raises(KeyboardInterrupt):
        certificates.key(URL)
    with pytest.raises(ProviderCallError):
        certificates.key(URL)


def test_strangers_cannot_make_it_fetch_without_end(ticking: Callable[[float], None]) -> None:
    fetch = Fetcher({URL: PEMS[URL]})
    certificates = Certificates(fetch)
    certificates.key(URL)
    for number in range(100):
        with pytest.raises((SignatureError, ProviderCallError)):
            certificates.key(URL.replace("0123", f"{number:04x}0"))
    assert sum(fetch.asked.values()) == 17
    certificates.key(URL)
    assert fetch.asked[URL] == 1
    ticking(61)
    with pytest.raises(SignatureError):
        certificates.key(OTHER_URL)


@pytest.mark.parametrize(
    ("status", "retryable"), [(301, False), (302, False), (403, False), (404, False), (429, True), (500, True)]
)
def test_only_a_plain_answer_is_a_certificate(status: int, retryable: bool) -> None:
    assert pem_of(HTTPAnswer(200, {}, b"pem")) == b"pem"
    with pytest.raises(ProviderCallError) as error:
        pem_of(HTTPAnswer(status, {"location": "https://evil.example/"}, b"pem"))
    assert error.value.retryable is retryable


def test_a_server_that_cannot_prove_its_name_is_an_outage() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        closing = threading.Thread(target=lambda: server.accept()[0].close())
        closing.start()
        with pytest.raises(ProviderCallError) as error:
            fetch_certificate(f"https://127.0.0.1:{server.getsockname()[1]}/x.pem")
        closing.join(60)
    assert error.value.retryable


def test_a_kept_key_is_fetched_anew_after_a_day(ticking: Callable[[float], None]) -> None:
    fetch = Fetcher()
    certificates = Certificates(fetch)
    for seconds in (0, 86_000, 1_000):
        ticking(seconds)
        certificates.key(URL)
    assert fetch.asked[URL] == 2


def test_no_flipped_byte_in_what_is_signed_passes() -> None:
    room = provider()
    fields = sign(message(Message='{"a":1}', MessageId="0ab3"))
    body = json.dumps(fields).encode()
    assert why(WebhookRequest(headers_of(fields), body), room) is None
    checked = {name: str(fields[name]) for name in (*NOTIFICATION, "Signature") if name in fields}
    for name, value in checked.items():
        for index in range(len(value)):
            flipped = value[:index] + chr(ord(value[index]) ^ 1) + value[index + 1 :]
            forged = json.dumps(fields | {name: flipped}).encode()
            # base64 has a character whose last bits mean nothing
            if name == "Signature" and _decoded(flipped) == _decoded(value):
                continue
            assert why(WebhookRequest(headers_of(fields), forged), room) is not None, (name, index)


def _decoded(text: str) -> bytes | None:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        return None


HEADERS = st.dictionaries(st.sampled_from([TYPE, MESSAGE_ID, TOPIC, "x"]), st.text(max_size=20) | st.just(ARN))
VALUES = st.none() | st.text(max_size=20) | st.integers() | st.lists(st.text(max_size=3)) | st.just(ARN)
FIELDS = st.sampled_from([*NOTIFICATION, "Signature", "SignatureVersion", "SigningCertURL", "Token", "SubscribeURL"])


@given(HEADERS, st.binary(max_size=80) | st.dictionaries(FIELDS, VALUES).map(lambda body: json.dumps(body).encode()))
def test_arbitrary_body_is_refused_and_breaks_nothing(headers: dict[str, str], body: bytes) -> None:
    with pytest.raises(SignatureError):
        provider().verify(WebhookRequest(headers, body))


class FakeSNS:
    """Stands where the SNS client would, to see what is asked of it."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.calls: list[dict[str, str]] = []

    def confirm_subscription(self, **parameters: str) -> None:
        self.calls.append(parameters)
        if self.error:
            raise self.error


@pytest.fixture
def confirming(monkeypatch: pytest.MonkeyPatch) -> tuple[SESProvider, FakeSNS, list[str]]:
    room, sns, regions = provider(access_key_id=Secret("a"), secret_access_key=Secret("b")), FakeSNS(), list[str]()

    def client(region: str) -> FakeSNS:
        regions.append(region)
        return sns

    monkeypatch.setattr(room.clients, "sns", client)
    return room, sns, regions


Confirming = tuple[SESProvider, FakeSNS, list[str]]


def told(room: SESProvider, fields: dict[str, Any]) -> list[str]:
    seen: list[str] = []
    end = telemetry.subscribe(lambda event, _: seen.append(event))
    try:
        room.on_webhook(json.dumps(fields).encode(), headers_of(fields))
    finally:
        end()
    return seen


def test_verifying_a_confirmation_confirms_nothing(confirming: Confirming) -> None:
    room, sns, _ = confirming
    assert why(posted(sign(message("SubscriptionConfirmation"))), room) is None
    assert not sns.calls


def test_a_subscription_is_confirmed_through_the_api_in_its_topics_region(confirming: Confirming) -> None:
    room, sns, regions = confirming
    fields = message("SubscriptionConfirmation", TopicArn=OLD_ARN, SubscribeURL="http://169.254.169.254/")
    assert told(room, fields) == ["mailglass.ses.subscribed"]
    assert sns.calls == [{"TopicArn": OLD_ARN, "Token": "2336412f37", "AuthenticateOnUnsubscribe": "true"}]
    assert regions == ["us-east-1"]


def test_a_topic_that_is_ours_no_more_is_not_confirmed(confirming: Confirming) -> None:
    room, sns, _ = confirming
    assert told(room, message("SubscriptionConfirmation", TopicArn=ARN + "x")) == ["mailglass.ses.subscription_ignored"]
    assert not sns.calls


def test_the_end_of_a_subscription_is_told_and_not_undone(confirming: Confirming) -> None:
    room, sns, _ = confirming
    assert told(room, message("UnsubscribeConfirmation")) == ["mailglass.ses.unsubscribed"]
    assert told(room, message("Notification")) == []
    assert not sns.calls


def test_a_confirmation_that_fails_for_now_is_tried_again(confirming: Confirming) -> None:
    room, sns, _ = confirming
    sns.error = OSError()
    with pytest.raises(ProviderCallError) as error:
        told(room, message("SubscriptionConfirmation"))
    assert error.value.retryable


@given(st.binary(max_size=60) | st.dictionaries(FIELDS, VALUES).map(lambda body: json.dumps(body).encode()))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    try:
        provider().on_webhook(body, {})
    except WebhookBodyError:
        return
