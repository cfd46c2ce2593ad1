"""E-mails, webhooks and chats against real servers on loopback: what is sent, and what becomes of trouble."""

from __future__ import annotations

import json
import socket
from datetime import UTC, datetime
from ipaddress import ip_address

import pytest

from ratemill.config import Notify, Smtp, Webhook, parse_config
from ratemill.documents.environment import make_environment
from ratemill.errors import UsageError
from ratemill.notify import webhook as hooks_module
from ratemill.notify.chat import send_chat
from ratemill.notify.deliver import deliver
from ratemill.notify.mail import email_of, send_emails
from ratemill.notify.messages import grouped, message_of, written
from ratemill.notify.outcomes import LONGEST_ERROR, Outcome
from ratemill.notify.webhook import Patience, body_of, is_public, post, signature
from receivers import PASSWORD, USER, HookServer, MailServer, certificate, free_port

NOW = datetime(2026, 11, 2, 6, 0, tzinfo=UTC)
QUICK = Patience(first_wait_seconds=0.01, longest_wait_seconds=0.02, timeout_seconds=0.3, deadline_seconds=0.8)
BUDGET = {
    "period": "2026-10", "currency": "EUR", "amount": "812.5", "actual": "812.5", "basis": "actual", "measure": "net",
    "percent": "81.2", "threshold": "80%", "limit": "800", "as_of": "2026-11-02T06:00:00Z",
    "budget": {"budget_id": "b", "name": "Büro & Söhne", "amount": "1000", "currency": "EUR", "period": "month"},
    "scope": {"account_id": "acme"},
}  # fmt: skip


def row(identity: str = "ab" * 32, **values):
    """A row of NOTIFICATIONS: 80 % of a budget, for finance, by e-mail."""
    return {
        "notification_id": identity, "kind": "budget", "period": "2026-10", "account_id": "acme", "budget_id": "b",
        "subscription_id": "finance", "channel": "email", "address": "finance@example.com", "language": "en",
        "quiet": "off", "digest": False, "state": "queued", "message_id": None, "attempts": 0, "queued_at": NOW,
        "not_before": NOW, "last_attempt_at": None, "sent_at": None, "last_error": None,
        "payload": json.dumps(BUDGET),
    } | values  # fmt: skip


def messages(*rows):
    return [message_of(group) for group in grouped(rows)]


def text_of(message):
    return written(message, make_environment(), seller="Example Cloud")


def mail_to(server, sent, *, root=None, secrets=None, **smtp):
    settings = Notify(
        sender="billing@cloud.example",
        smtp=Smtp(**{"host": "127.0.0.1", "port": server.port, "security": "none", "timeout_seconds": 2} | smtp),
    )
    texts = {message.message_id: text_of(message) for message in sent}
    return list(send_emails(sent, texts, settings=settings, seller="Example Cloud", secrets=secrets or {}, root=root))


# ----------------------------------------------------------------------------------------------------------------- e-mail


@pytest.fixture(scope="module")
def mail():
    with MailServer() as server:
        yield server


@pytest.fixture(autouse=True)
def _forget(mail):
    mail.taken.clear()
    mail.recipients.clear()
    mail.answers.clear()
    mail.data_answer = "250 OK"


def test_an_email_says_it_in_text_and_html(mail):
    (outcome,) = mail_to(mail, messages(row()))
    assert outcome == Outcome("ab" * 32, "sent")
    (email,) = mail.taken
    assert email["From"] == "Example Cloud <billing@cloud.example>"
    assert email["To"] == "finance@example.com"
    assert email["Subject"] == "Example Cloud: Büro & Söhne: 81.2% used"
    assert email["Message-ID"] == f"<{'ab' * 32}@cloud.example>"
    assert email["Auto-Submitted"] == "auto-generated"
    text = email.get_body("plain").get_content()
    html = email.get_body("html").get_content()
    assert "Spent so far: EUR\N{NO-BREAK SPACE}812.50" in text
    assert "Threshold reached: 80% · EUR\N{NO-BREAK SPACE}800.00" in text
    assert "Büro &amp; Söhne: 81.2% used" in html
    assert "<script" not in html
    assert "http" not in html.replace("http-equiv", "")


def test_the_same_message_is_the_same_bytes_at_every_attempt():
    (message,) = messages(row())
    first, second = (
        email_of(message, text_of(message), "billing@cloud.example", "Example Cloud").as_bytes() for _ in range(2)
    )
    assert first == second


@pytest.mark.parametrize("language", ["en", "de", "fr"])
def test_words_and_figures_are_of_the_recipients_language(language):
    (message,) = messages(row(language=language))
    told = text_of(message)
    amount = {"en": "EUR 812.50", "de": "812,50 EUR", "fr": "812,50 EUR"}[language]
    words = {"en": "Threshold reached", "de": "Erreichte Schwelle", "fr": "Seuil atteint"}[language]
    assert amount in told.text.replace("\N{NO-BREAK SPACE}", " ")
    assert words in told.text
    assert f'lang="{language}"' in told.html


def test_one_refused_recipient_is_nobody_elses_trouble(mail):
    mail.answers = {"gone@example.com": "550 5.1.1 no such user", "full@example.com": "452 4.2.2 mailbox full"}
    sent = messages(
        *(row(str(n) * 64, address=f"{name}@example.com") for n, name in enumerate(("gone", "full", "cfo")))
    )
    outcomes = {outcome.message_id[0]: outcome for outcome in mail_to(mail, sent)}
    assert (outcomes["0"].result, outcomes["0"].error) == ("failed", "550 5.1.1 no such user")
    assert (outcomes["1"].result, outcomes["1"].error) == ("later", "452 4.2.2 mailbox full")
    assert outcomes["2"].result == "sent"
    assert mail.recipients == ["cfo@example.com"]


def test_a_server_that_takes_no_message_now_is_asked_again_later(mail):
    mail.data_answer = "451 4.3.0 try again"
    (outcome,) = mail_to(mail, messages(row()))
    assert (outcome.result, outcome.error) == ("later", "451 4.3.0 try again")
    mail.data_answer = "554 5.7.1 looks like spam"
    (outcome,) = mail_to(mail, messages(row()))
    assert (outcome.result, outcome.error) == ("failed", "554 5.7.1 looks like spam")


def test_a_server_that_is_down_is_asked_once(mail):
    class Down:
        port = free_port()

    outcomes = mail_to(Down, messages(row("1" * 64), row("2" * 64, address="cfo@example.com")))
    assert [outcome.result for outcome in outcomes] == ["later", "later"]
    assert f"127.0.0.1:{Down.port} can't be reached" in outcomes[1].error


def test_a_server_that_says_nothing_is_given_up_in_time(mail):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()

        class Silent:
            port = silent.getsockname()[1]

        (outcome,) = mail_to(Silent, messages(row()), timeout_seconds=1)
    assert outcome.result == "later"
    assert "timed out" in outcome.error


def test_over_tls_with_a_password(mail, tmp_path):
    files = certificate(tmp_path)
    for security in ("starttls", "tls"):
        with MailServer(files=files, tls=security == "tls") as server:
            account = {"security": security, "ca_file": "cert.pem", "user": USER, "password_env": "SMTP_PASSWORD"}
            right, wrong = ({"SMTP_PASSWORD": word} for word in (PASSWORD, "wrong"))
            (outcome,) = mail_to(server, messages(row()), root=tmp_path, secrets=right, **account)
            assert outcome.result == "sent"
            assert server.logins == [True]
            (outcome,) = mail_to(server, messages(row()), root=tmp_path, secrets=wrong, **account)
            assert outcome.result == "later"
            assert "does not take the password" in outcome.error
            assert "wrong" not in outcome.error
            (outcome,) = mail_to(server, messages(row()), root=tmp_path, secrets=right, **account | {"ca_file": ""})
            assert outcome.result == "later"
            assert "certificate" in outcome.error
            assert len(server.taken) == 1
    with pytest.raises(UsageError, match=r"ca_file = 'key.pam' can't be read"):
        mail_to(server, messages(row()), root=tmp_path, secrets=right, **account | {"ca_file": "key.pam"})


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"sender": ""}, "sender is not set"),
        ({"smtp": {"host": ""}}, "host is not set"),
        ({"smtp": {"host": "mail", "user": "u", "password_env": "NOT_SET"}}, "NOT_SET with the mail server's password"),
        ({"smtp": {"host": "mail", "user": "u"}}, "password_env should name"),
        ({"smtp": {"host": "m", "user": "u", "password_env": "P", "security": "none"}}, "in the clear"),
    ],
)
def test_what_is_not_set_up_is_said_and_waits(settings, words):
    given = Notify.model_validate({"sender": "a@b.example", **settings})
    (message,) = messages(row())
    (outcome,) = send_emails([message], {}, settings=given, seller="x", secrets={"P": "secret"}, root=None)
    assert outcome.result == "later"
    assert words in outcome.error


def test_headers_cannot_be_forged_by_names(mail):
    evil = BUDGET | {"budget": BUDGET["budget"] | {"name": "x\r\nBcc: thief@example.com\r\n\r\n<b>hi</b>\u202e"}}
    (outcome,) = mail_to(mail, messages(row(payload=json.dumps(evil))))
    assert outcome.result == "sent"
    (email,) = mail.taken
    assert email["Bcc"] is None
    assert "<b>hi</b>" not in email.get_body("html").get_content()
    assert "\u202e" not in email.get_body("html").get_content()


# --------------------------------------------------------------------------------------------------------------- webhooks


@pytest.fixture
def hooks():
    with HookServer() as server:
        yield server


def hook_to(server, *, identity="cd" * 32, **values):
    (message,) = messages(row(identity, channel="webhook", address="erp"))
    given = {"url": server.url, "secret_env": "S", "allow_private": True} | values
    return post(message, Webhook(**given), "secret", patience=QUICK)


def test_a_webhook_gets_signed_json(hooks):
    assert hook_to(hooks).result == "sent"
    (request,) = hooks.received
    assert request.is_signed_with("secret")
    assert not request.is_signed_with("another")
    assert request.headers["idempotency-key"] == "cd" * 32
    told = request.json
    assert (told["event"], told["idempotency_key"], told["created_at"]) == ("budget", "cd" * 32, "2026-11-02T06:00:00Z")
    data = told["data"]
    assert (data["amount"], data["currency"], data["basis"], data["period"]) == ("812.5", "EUR", "actual", "2026-10")
    assert data["budget"]["budget_id"] == "b"
    assert data["scope"] == {"account_id": "acme"}


def test_the_signature_is_of_timestamp_and_body():
    """As another program computes it: ``printf '1762063200.{}' | openssl dgst -sha256 -hmac secret``."""
    digest = "45517b37a4096e4503f5db2de2ba54884662c3a779276fa03be1bb8eb225b167"
    assert signature("secret", 1762063200, b"{}") == f"t=1762063200,v1={digest}"


def test_a_webhook_that_fails_is_tried_again_with_the_same_body(hooks):
    hooks.answers = [500, "cut", 200]
    assert hook_to(hooks).result == "sent"
    assert len(hooks.received) == 3
    assert len({(request.body, request.headers["idempotency-key"]) for request in hooks.received}) == 1


@pytest.mark.parametrize(
    ("answer", "result", "tries", "words"),
    [
        (503, "later", 3, "HTTP 503"),
        (429, "later", 3, "HTTP 429"),
        ("cut", "later", 3, "127.0.0.1"),
        ("hang", "later", 3, "did not answer within"),
        (400, "failed", 1, "HTTP 400 Bad Request: you got 400"),
        (401, "failed", 1, "HTTP 401"),
        (410, "failed", 1, "take it out of the subscriptions"),
        ("redirect", "failed", 1, "leads to http://127.0.0.1:1/elsewhere, and redirects are not followed"),
    ],
)
def test_what_becomes_of_a_webhook_in_trouble(hooks, answer, result, tries, words):
    hooks.answers = [answer]
    outcome = hook_to(hooks)
    assert (outcome.result, len(hooks.received)) == (result, tries)
    assert words in outcome.error


@pytest.mark.slow
def test_an_answer_that_drips_is_not_waited_for(hooks):
    hooks.answers = ["drip"]
    outcome = hook_to(hooks)
    assert outcome.result == "later"
    assert "no whole answer within 0.8 seconds" in outcome.error


def test_a_private_address_is_refused_unless_allowed(hooks):
    port = hooks.url.partition("127.0.0.1:")[2]
    outcome = hook_to(hooks, url=f"https://127.0.0.1:{port}", allow_private=False)
    assert outcome.result == "failed"
    assert "allow_private = true" in outcome.error
    assert hooks.received == []


def test_a_name_is_connected_to_at_the_address_that_was_looked_at(hooks, monkeypatch):
    """DNS rebinding: the name is public when it is looked at, and would be private when it is looked up again."""
    asked, real_look_up = [], socket.getaddrinfo

    def resolve(host, port, *options, **more):
        if not host.endswith("example.com"):
            return real_look_up(host, port, *options, **more)
        asked.append(host)
        address = "127.0.0.1" if len(asked) == 1 else "10.0.0.1"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    monkeypatch.setattr(hooks_module.socket, "getaddrinfo", resolve)
    (message,) = messages(row(channel="webhook", address="erp"))
    real = Webhook(url=hooks.url.replace("127.0.0.1", "hooks.example.com"), secret_env="S", allow_private=True)  # noqa: S106
    outcome = post(message, real, "secret", patience=QUICK)
    assert outcome.result == "sent"
    assert asked == ["hooks.example.com"]
    assert hooks.received[0].headers["host"].startswith("hooks.example.com")


def test_a_name_with_one_private_address_is_refused_as_a_whole(hooks, monkeypatch):
    def resolve(host, port, **_):
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (a, port)) for a in ("93.184.216.34", "169.254.169.254")]

    monkeypatch.setattr(hooks_module.socket, "getaddrinfo", resolve)
    outcome = hook_to(hooks, url="https://hooks.example.com/x", allow_private=False)
    assert outcome.result == "failed"
    assert "hooks.example.com is 169.254.169.254" in outcome.error


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.216.34", True),
        ("2606:2800:220:1::1", True),
        ("127.0.0.1", False),
        ("10.1.2.3", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("169.254.169.254", False),  # where clouds keep their secrets
        ("100.64.0.1", False),
        ("0.0.0.0", False),  # noqa: S104
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("::1", False),
        ("::", False),
        ("fe80::1", False),
        ("fc00::1", False),
        ("ff02::1", False),
        ("::ffff:127.0.0.1", False),
        ("::ffff:93.184.216.34", True),
        ("64:ff9b::10.0.0.1", False),
        ("2002:7f00:1::", False),  # 6to4 of 127.0.0.1
    ],
)
def test_which_addresses_are_of_the_internet(address, public):
    assert is_public(ip_address(address)) is public


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("ftp://example.com/x", "is no URL"),
        ("https://user:password@example.com/x", "is no URL"),
        ("http://example.com/x", "begins with https"),
    ],
)
def test_which_urls_a_webhook_may_have(url, words):
    with pytest.raises(UsageError, match=words):
        parse_config(
            {"seller": {"name": "x", "country": "FR"}, "notify": {"webhooks": {"a": {"url": url, "secret_env": "S"}}}}
        )


def test_bodies_are_the_same_bytes(hooks):
    assert body_of(row()) == body_of(row(attempts=3, state="sending"))


# ------------------------------------------------------------------------------------------------------------------ chats


def test_a_chat_through_apprise(hooks):
    (message,) = messages(row(channel="chat", address="finance"))
    address = hooks.url.removeprefix("http://")
    assert send_chat(message, text_of(message), f"json://{address}").result == "sent"
    told = hooks.received[0].json
    assert told["title"] == "Example Cloud: Büro & Söhne: 81.2% used"
    assert "Spent so far" in told["message"]
    hooks.answers = [500]
    outcome = send_chat(message, text_of(message), f"json://{address}?token=secret")
    assert outcome.result == "later"
    assert "secret" not in outcome.error
    assert send_chat(message, text_of(message), "no such thing").result == "failed"


# ------------------------------------------------------------------------------------------------------------ all of them


def test_trouble_with_one_way_is_not_trouble_with_another(hooks, mail, tmp_path):
    config = parse_config(
        {
            "seller": {"name": "Example Cloud", "country": "FR"},
            "notify": {
                "sender": "billing@cloud.example",
                "smtp": {"host": "127.0.0.1", "port": mail.port, "security": "none"},
                "webhooks": {
                    "erp": {"url": hooks.url, "secret_env": "ERP", "allow_private": True},
                    "down": {"url": f"http://127.0.0.1:{free_port()}", "secret_env": "ERP", "allow_private": True},
                    "mute": {"url": hooks.url, "secret_env": "NOT_SET", "allow_private": True},
                },
                "chats": {"finance": "CHAT"},
            },
        }
    )
    ways = [("email", "cfo@example.com"), ("webhook", "down"), ("webhook", "down"), ("webhook", "mute"),
            ("webhook", "lost"), ("webhook", "erp"), ("chat", "finance"), ("chat", "lost")]  # fmt: skip
    sent = messages(*(row(str(n) * 64, channel=way, address=to) for n, (way, to) in enumerate(ways)))
    texts = {message.message_id: text_of(message) for message in sent}
    secrets = {"ERP": "secret", "CHAT": hooks.url.replace("http://", "json://")}
    outcomes = deliver(sent, texts, config=config, secrets=secrets, root=tmp_path, patience=QUICK)
    assert {outcome.message_id[0]: outcome.result for outcome in outcomes} == {
        "0": "sent", "1": "later", "2": "later", "3": "later", "4": "failed", "5": "sent", "6": "sent", "7": "failed",
    }  # fmt: skip


def test_customers_are_told_at_the_numbers_and_urls_that_they_gave(hooks, tmp_path):
    """Unsigned, since nobody gave a secret; and only as far as [notify] lets them."""
    ways = [("chat", "+33612345678"), ("webhook", hooks.url)]
    sent = messages(*(row(str(n) * 64, channel=way, address=to) for n, (way, to) in enumerate(ways)))
    texts = {message.message_id: text_of(message) for message in sent}
    address = hooks.url.removeprefix("http://")

    def told(**notify):
        config = parse_config({"seller": {"name": "Example Cloud", "country": "FR"}, "notify": notify})
        secrets = {"SMS": f"json://{address}/{{number}}"}
        return [
            one.result for one in deliver(sent, texts, config=config, secrets=secrets, root=tmp_path, patience=QUICK)
        ]

    assert told(customers_webhooks="any", sms_env="SMS") == ["sent", "sent"]
    call, sms = hooks.received
    assert "ratemill-signature" not in call.headers
    assert call.json["invoice_start_date"].endswith("-01T00:00:00Z")
    assert isinstance(call.json["threshold"], int)
    assert sms.path.endswith("/33612345678")
    assert told() == ["failed", "failed"]  # http, and no service for SMS
    assert told(customers_webhooks="off") == ["failed", "failed"]
    assert len(hooks.received) == 2


def test_errors_of_others_are_kept_short():
    assert len(Outcome.later("m", "x\n" * 9_999).error) <= LONGEST_ERROR + 1
