"""ratemill.toml: frozen, nothing unknown, and messages that name file, key, value and cure."""

from decimal import Decimal

import pytest
from pydantic import ValidationError

from ratemill.config import parse_config, read_config
from ratemill.errors import ExitCode, UsageError

SELLER = '[seller]\nname = "Cirrus Works"\ncountry = "FR"\n'


def written(folder, text):
    path = folder / "ratemill.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_a_name_and_a_country_are_enough(tmp_path):
    config = read_config(written(tmp_path, SELLER))

    assert config.seller.name == "Cirrus Works"
    assert config.period.time_zone == "UTC"
    assert config.period.detail == "day"
    assert config.usage.files == ("usage/*.parquet",)
    assert config.policy.unpriced == "block", "nothing is free by omission"


def test_every_section_can_be_set(tmp_path):
    config = read_config(
        written(
            tmp_path,
            SELLER
            + """
address = ["1 rue des Nuages", "75011 Paris"]
payment_terms_days = 14
bank = { name = "Banque des Nuages", iban = "FR7630006000011234567890189", bic = "AGRIFRPP" }

[usage]
files = ["in/*.parquet", "late/*.parquet"]
columns = { quantity = "amount_used" }
filter = { environment = ["prod", "staging"] }

[period]
time_zone = "Europe/Paris"
detail = "hour"

[policy]
max_rejected_share = 0.001
unpriced = "warn"

[output]
pdf = false

[engine]
memory = "1.5GB"
threads = 2
""",
        )
    )

    assert config.seller.address == ("1 rue des Nuages", "75011 Paris")
    assert config.seller.bank.bic == "AGRIFRPP"
    assert config.usage.columns == {"quantity": "amount_used"}
    assert config.usage.filter == {"environment": ("prod", "staging")}
    # a TOML number is a float; the share must be the digits that were written, not the float's binary value
    assert config.policy.max_rejected_share == Decimal("0.001")
    assert config.engine.threads == 2


MISTAKES = [  # (what the file says, words the message must hold)
    ("", ["seller is missing"]),
    ("[seller]\nname = 'A'", ["seller.country is missing"]),
    ("[seller]\nname = 'A'\ncountry = 'France'", ["seller.country", "'France'"]),
    (SELLER + "[perid]\ntime_zone = 'UTC'", ["unknown key perid", "did you mean period?"]),
    (SELLER + "[period]\ntimezone = 'UTC'", ["unknown key period.timezone", "did you mean period.time_zone?"]),
    (SELLER + "bank = { ibam = 'X' }", ["unknown key seller.bank.ibam", "did you mean seller.bank.iban?"]),
    (SELLER + "zzzzzz = 1", ["unknown key seller.zzzzzz"]),
    (SELLER + "[period]\ntime_zone = 'CEST'", ["period.time_zone", "'CEST'", "IANA", "Europe/Paris"]),
    (SELLER + "[period]\ndetail = 'minute'", ["period.detail", "'minute'", "'day' or 'hour'"]),
    (SELLER + "[policy]\nmax_rejected_share = 1.5", ["policy.max_rejected_share", "1.5", "less than or equal to 1"]),
    (SELLER + "[policy]\nunpriced = 'free'", ["policy.unpriced", "'free'", "'block' or 'warn'"]),
    (SELLER + "payment_terms_days = -1", ["seller.payment_terms_days", "-1"]),
    (SELLER + "[engine]\nmemory = 'lots'", ["engine.memory", "'lots'", "is no size such as 4GB"]),
    (SELLER + "[engine]\nmemory = '512MB'", ["engine.memory", "'512MB' is too little", "a run needs 1 GB or more"]),
    (SELLER + "[engine]\nthreads = 0", ["engine.threads", "0"]),
    (SELLER + "[usage]\nfiles = 'usage/*.parquet'", ["usage.files", "usage/*.parquet"]),
    ("[seller\nname = 'A'", ["not valid TOML", "line 1"]),
    (b"[seller]\nname = '\xff'", ["not valid TOML"]),
]


@pytest.mark.parametrize(("text", "words"), MISTAKES, ids=[" ".join(words) for _, words in MISTAKES])
def test_a_mistake_is_named(tmp_path, text, words):
    with pytest.raises(UsageError) as caught:
        read_config(written(tmp_path, text))

    assert str(caught.value).startswith("ratemill.toml: ")
    assert [word for word in words if word not in str(caught.value)] == []
    assert caught.value.exit_code == ExitCode.USAGE


def test_all_mistakes_are_told_at_once():
    with pytest.raises(UsageError) as caught:
        parse_config({"seller": {"name": "A", "country": "fr"}, "engine": {"threads": 0}, "outptu": {}})

    assert [line.split(":")[0] for line in str(caught.value).splitlines()] == ["ratemill.toml"] * 3


def test_no_nearest_key_is_made_up():
    with pytest.raises(UsageError) as caught:
        parse_config({"seller": {"name": "A", "country": "FR", "zzzzzz": 1}})

    assert "did you mean" not in str(caught.value)


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"none\.toml: cannot be read: No such file"):
        read_config(tmp_path / "none.toml")


def test_a_configuration_cannot_be_changed(tmp_path):
    config = read_config(written(tmp_path, SELLER))
    with pytest.raises(ValidationError, match="frozen"):
        config.period.time_zone = "Europe/Paris"


def test_the_fingerprint_changes_with_what_changes_a_bill_and_with_nothing_else():
    base = {"seller": {"name": "A", "country": "FR"}}
    fingerprint = parse_config(base).fingerprint()

    assert parse_config(base | {"engine": {"threads": 1, "memory": "1GB"}}).fingerprint() == fingerprint
    assert parse_config(base | {"period": {"time_zone": "UTC"}}).fingerprint() == fingerprint, (
        "the default, spelled out"
    )
    for change in (
        {"period": {"time_zone": "Europe/Paris"}},
        {"period": {"detail": "hour"}},
        {"policy": {"unpriced": "warn"}},
        {"usage": {"filter": {"environment": ["prod"]}}},
        {"seller": {"name": "B", "country": "FR"}},
    ):
        assert parse_config(base | change).fingerprint() != fingerprint, change
