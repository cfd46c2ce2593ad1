"""``ratemill.toml`` as frozen objects. An unknown key is an error that names the nearest known one."""

from __future__ import annotations

import difflib
import hashlib
import re
import tomllib
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from ratemill.errors import UsageError
from ratemill.identifiers import ElectronicAddress, is_country, is_mailbox, is_url
from ratemill.invoicing.numbering import NumberPattern
from ratemill.memory import SMALLEST, parse_size, size_text
from ratemill.notify.schedule import quiet_hours
from ratemill.object_urls import ObjectUrl, has_wildcards, is_object_url
from ratemill.period import is_time_zone

if TYPE_CHECKING:
    from pathlib import Path


def _require_zone(value: str) -> str:
    if not is_time_zone(value):
        raise ValueError(f"{value!r} is not an IANA time zone such as Europe/Paris")
    return value


TimeZone = Annotated[str, AfterValidator(_require_zone)]
"""IANA zone."""
TimeZoneOrNone = Annotated[str, AfterValidator(lambda value: value and _require_zone(value))]
"""The same, or empty."""


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=False)


class Bank(_Section):
    """Where customers pay."""

    name: str = ""
    iban: str = ""
    bic: str = ""


class Seller(_Section):
    """The legal entity that issues invoices."""

    name: str
    legal_name: str = ""
    address: tuple[str, ...] = ()
    postal_code: str = ""
    city: str = ""
    """Printed below ``address``, after the postal code. E-invoices want both by themselves."""
    country: str = Field(pattern=r"^[A-Z]{2}$")
    tax_id: str = ""
    registration: str = ""
    time_zone: TimeZoneOrNone = ""
    """IANA zone that days of issue and the years of numbers are counted in; empty: that of ``[period]``."""
    invoice_number: str = "{year}-{number:05}"
    """Pattern of the numbers of invoices: gap-free for each year."""
    credit_note_number: str = "CN-{year}-{number:05}"
    """Pattern of the numbers of credit notes. The same as of invoices: one series for both."""
    email: str = ""
    website: str = ""
    phone: str = ""
    electronic_address: str = ""
    """Where e-invoices come from, as scheme:identifier (code list EAS); empty: the e-mail address."""
    bank: Bank = Bank()
    payment_terms_days: int = Field(default=30, ge=0, le=366)
    logo: str = ""
    """SVG or PNG file, relative to the workspace."""

    @field_validator("country")
    @classmethod
    def _is_country(cls, value: str) -> str:
        if not is_country(value):
            raise ValueError(f"{value!r} is no ISO 3166 code of a country, such as FR; the United Kingdom is GB")
        return value

    @field_validator("electronic_address")
    @classmethod
    def _is_electronic_address(cls, value: str) -> str:
        if value:
            ElectronicAddress.parse(value)
        return value

    @field_validator("invoice_number", "credit_note_number")
    @classmethod
    def _is_pattern(cls, value: str) -> str:
        return NumberPattern.parse(value).text


class Usage(_Section):
    """Where usage files are and how their columns are called."""

    files: tuple[str, ...] = ("usage/*.parquet",)
    preset: Literal["native", "focus"] = "native"
    columns: dict[str, str] = Field(default_factory=dict)
    """Our column name → the file's column name."""
    filter: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """File column → values to keep; other rows are counted as filtered."""
    float_quantity: Literal["refuse", "as_text"] = "refuse"
    """as_text reads a float quantity as the shortest decimal that prints the same, rounded half-even to 12 decimals."""
    max_rows_per_file: int = Field(default=100_000_000, gt=0)
    max_rows_per_byte: int = Field(default=10, gt=0)
    """Files that unfold to more rows than this per byte are refused as decompression bombs."""

    @field_validator("files")
    @classmethod
    def _are_patterns(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in value:
            if is_object_url(pattern):
                ObjectUrl.parse(pattern)
        return value

    def fingerprint(self) -> str:
        """SHA-256 of everything that decides what is read from a file; where files lie does not."""
        return hashlib.sha256(self.model_dump_json(exclude={"files": True}).encode()).hexdigest()


class Period(_Section):
    """What a month is."""

    time_zone: TimeZone = "UTC"
    """Zone of accounts that name none, and of dates without a time in the book."""
    detail: Literal["day", "hour"] = "day"


class Policy(_Section):
    """When to stop."""

    max_rejected_share: Decimal = Field(default=Decimal("0.001"), ge=0, le=1)
    """Refuse to bill when a larger share of the rows of the period's files is rejected."""
    unpriced: Literal["block", "warn"] = "block"
    corrections: Literal["next_invoice", "credit_note"] = "next_invoice"
    """How differences of closed periods are billed: as lines of the next invoice, or as credit notes and invoices of
    their own."""
    max_total_change: Decimal = Field(default=Decimal("0.5"), ge=0)
    """Share by which an invoice's untaxed amount may differ from last month's before the close asks about it."""
    keep_drafts: int = Field(default=3, ge=1)
    """Runs of an open period whose charges are kept; older ones are collected."""


class Output(_Section):
    """What to write."""

    pdf: bool = True
    html: bool = True
    einvoice: Literal["auto", "required", "off"] = "auto"
    """Whether issued documents are e-invoices too. auto: those that can be, of sellers in countries that exchange them;
    required: of any seller, and the close asks about documents that can't be."""
    workbook: bool = True
    prices: bool = False
    """Price pages: one of the public prices, and one for each payer with price lists of its own."""
    publish_usage: Literal["day", "hour"] = "day"
    publish_focus: bool = False
    """Whether the published database has a table of FOCUS rows: as many as charges, and several times as wide."""
    metrics: str = Field(default="", pattern=r"^(.+\.prom)?$")
    """File for Prometheus' textfile collector, relative to the workspace; empty: none."""
    lineage: bool = False
    """Whether OpenLineage is told of runs and their steps, by its own configuration."""


class Storage(_Section):
    """Object stores that speak S3. No credentials: they come from the environment, as those of AWS's own tools."""

    allow_http: bool = False
    """Whether the endpoint may be one without encryption."""
    endpoint_url: str = ""
    """Where the store answers, such as https://minio.example.com; empty: Amazon S3."""
    region: str = Field(default="", pattern=r"^([a-z0-9-]+)?$")
    """Empty: what the environment says."""
    addressing: Literal["auto", "path", "virtual"] = "auto"
    """Where requests name the bucket: in the path, or in the name of the host; auto: as the library thinks best."""
    timeout_seconds: int = Field(default=60, gt=0, le=3600)
    """For connecting, and for each piece of an answer."""
    attempts: int = Field(default=5, gt=0, le=20)
    """For each request, with growing waits in between."""
    mirror: str = ""
    """Folder, s3://bucket/path, that everything published and made is copied to; empty: none."""
    mirror_keep_days: int = Field(default=30, gt=0, le=3660)
    """For so long, readers find what a former manifest of the mirror names."""

    @field_validator("endpoint_url")
    @classmethod
    def _is_endpoint(cls, value: str, info: ValidationInfo) -> str:
        if value and re.fullmatch(r"https?://[^\s/@?#]+/?", value) is None:
            raise ValueError("no URL such as https://minio.example.com, without user, password and path")
        if value.startswith("http:") and not info.data.get("allow_http"):
            raise ValueError("without encryption everybody on the way can read it; if that is meant, allow_http = true")
        return value

    @field_validator("mirror")
    @classmethod
    def _is_folder(cls, value: str) -> str:
        if value and has_wildcards(str(ObjectUrl.parse(value))):
            raise ValueError(f"{value!r} has wildcards, and must name one folder")
        return value


class Engine(_Section):
    """How much of the machine to use."""

    memory: str = ""
    """Of all processes of a run together, such as 4GB; empty: a share of what machine and container have."""
    threads: int | None = Field(default=None, gt=0)
    kind: Literal["local", "spark"] = "local"
    """Who loads and rates: this machine, or the workers of a Spark cluster."""
    shared: str = ""
    """Folder that this machine and all workers reach under one path, relative to the workspace; empty: state/shared."""
    spark: dict[str, str] = Field(default_factory=dict)
    """Settings of Spark by their own names, such as spark.master; those of its own configuration apply otherwise."""

    @field_validator("memory")
    @classmethod
    def _is_enough(cls, value: str) -> str:
        if value and parse_size(value) < SMALLEST:
            raise ValueError(f"{value!r} is too little: a run needs {size_text(SMALLEST)} or more, whatever it bills")
        return value


class Smtp(_Section):
    """The server that takes e-mails."""

    host: str = ""
    """Empty: no e-mails are sent; they wait."""
    port: int = Field(default=587, gt=0, le=65535)
    security: Literal["starttls", "tls", "none"] = "starttls"
    """none: in the clear, for a server on this machine; a password is never sent so."""
    user: str = ""
    password_env: str = ""
    """Environment variable that holds the password."""
    ca_file: str = ""
    """PEM file of the authority of the server's certificate, relative to the workspace; empty: those of the system."""
    timeout_seconds: int = Field(default=20, gt=0, le=600)


class Webhook(_Section):
    """A URL of somebody's that is told."""

    url: str
    secret_env: str
    """Environment variable that holds the secret of the signature."""
    allow_private: bool = False
    """Whether the URL may be http, and its host this machine or one of a private network."""

    @field_validator("url")
    @classmethod
    def _is_url(cls, value: str) -> str:
        if not is_url(value):
            raise ValueError(f"{value!r} is no URL such as https://example.com/hooks, without user and password")
        return value

    @model_validator(mode="after")
    def _is_encrypted(self) -> Self:
        if self.url.startswith("http:") and not self.allow_private:
            raise ValueError("a URL on the internet begins with https; http is for private networks (allow_private)")
        return self


class Notify(_Section):
    """Who sends notifications, how and when. Who gets which is in the book: subscriptions."""

    sender: str = ""
    """Address that e-mails come from, such as billing@example.com."""
    language: str = "en"
    """Language of e-mails (BCP 47) where a subscription names none."""
    time_zone: TimeZoneOrNone = ""
    """IANA zone of quiet hours and digests; empty: that of ``[period]``."""
    quiet: str = "off"
    """Local hours in which nothing is sent, such as 22:00-07:00, where a subscription says nothing."""
    digest: Literal["off", "daily"] = "off"
    """daily: the e-mails of a day in one, where a subscription says nothing."""
    digest_at: str = Field(default="08:00", pattern=r"^([01]\d|2[0-3]):[0-5]\d$")
    """Local time from which a daily e-mail is sent."""
    max_attempts: int = Field(default=12, gt=0, le=100)
    """Attempts, over about three days, after which a notification is given up."""
    webhooks: dict[str, Webhook] = Field(default_factory=dict)
    """Name that subscriptions use → where to."""
    chats: dict[str, str] = Field(default_factory=dict)
    """Name that subscriptions use → environment variable that holds the Apprise URL, which is a secret."""
    customers_webhooks: Literal["off", "public", "any"] = "public"
    """Whether URLs that customers give through the API are told of their budgets: those on the internet, by https; any:
    also http, and hosts of private networks."""
    sms_env: str = ""
    """Environment variable that holds the Apprise URL of an SMS service, with {number} where the number goes, for
    numbers that customers give through the API; empty: they are refused."""
    smtp: Smtp = Smtp()

    @field_validator("sender")
    @classmethod
    def _is_mailbox(cls, value: str) -> str:
        if value and not is_mailbox(value):
            raise ValueError(f"{value!r} is no e-mail address such as billing@example.com")
        return value

    @field_validator("quiet")
    @classmethod
    def _is_quiet(cls, value: str) -> str:
        quiet_hours(value)
        return value


class Config(_Section):
    """A whole ``ratemill.toml``."""

    seller: Seller
    usage: Usage = Usage()
    period: Period = Period()
    policy: Policy = Policy()
    output: Output = Output()
    notify: Notify = Notify()
    engine: Engine = Engine()
    storage: Storage = Storage()

    def fingerprint(self) -> str:
        """SHA-256 of everything that can change a number or a document; memory, places, mail and observers do not."""
        told = {"metrics": True, "lineage": True}
        return hashlib.sha256(
            self.model_dump_json(
                exclude={"engine": True, "notify": True, "storage": True, "usage": {"files": True}, "output": told}
            ).encode()
        ).hexdigest()

    def rating_fingerprint(self) -> str:
        """SHA-256 of what can change a charge: how files are read, and what a month is."""
        return hashlib.sha256(f"{self.usage.fingerprint()}{self.period.model_dump_json()}".encode()).hexdigest()


def read_config(path: Path) -> Config:
    """Parse and check a configuration file.

    Raises:
        UsageError: naming the file, each wrong key, its value and what was expected.
    """
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path.name}: not valid TOML: {error}") from None
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from None
    return parse_config(data, file=path.name)


def parse_config(data: dict[str, Any], *, file: str = "ratemill.toml") -> Config:
    """Check parsed TOML; see :func:`read_config`."""
    try:
        return Config.model_validate(data)
    except ValidationError as error:
        lines = [_explain(problem, file) for problem in error.errors(include_url=False)]
        raise UsageError("\n".join(lines)) from None


def _explain(problem: Any, file: str) -> str:
    path = [str(part) for part in problem["loc"]]
    key = ".".join(path)
    if problem["type"] == "extra_forbidden":
        near = difflib.get_close_matches(path[-1], _keys_beside(path), n=1, cutoff=0.5)
        hint = f"; did you mean {'.'.join([*path[:-1], near[0]])}?" if near else ""
        return f"{file}: unknown key {key}{hint}"
    if problem["type"] == "missing":
        return f"{file}: {key} is missing"
    value = re.sub(r"//[^/\s]*@", "//…@", repr(problem["input"]))  # a password in a URL is in no message
    return f"{file}: {key} = {value}: {problem['msg'].removeprefix('Value error, ')}"


def _keys_beside(path: list[str]) -> list[str]:
    """Known keys of the section that the last part of ``path`` was written in."""
    model: Any = Config
    for part in path[:-1]:
        field = model.model_fields.get(part)
        model = field.annotation if field is not None else None
        if not (isinstance(model, type) and issubclass(model, BaseModel)):
            return []
    return list(model.model_fields)
