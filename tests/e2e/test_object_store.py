"""Usage in an object store, and the mirror in one: a real S3 server on loopback that loses, cuts, refuses and fills up."""

from __future__ import annotations

import hashlib
import http.server
import json
import os
import signal
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import polars as pl
import pyarrow.dataset as ds
import pytest
from pyarrow.fs import S3FileSystem

from ratemill.config import Storage
from ratemill.errors import ExitCode
from ratemill.io.mirror import Mirror, Mirrored, files_to_mirror
from ratemill.io.storage import ObjectStore
from ratemill.object_urls import ObjectUrl
from ratemill.workspace import find_workspace
from receivers import free_port
from stores import ENVIRONMENT, KEY, SECRET, S3Server, answers, breaks_after, deletes_nothing, first, hangs_up, hides
from workspaces import (
    ADDRESSED,
    PERIOD,
    SOURCE_ROOT,
    TinyWorkspace,
    good_usage,
    hours,
    make_workspace,
    month_of_usage,
    run_process,
    tree,
)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server():
    with S3Server() as server:
        yield server


@pytest.fixture(autouse=True)
def _environment(monkeypatch, server):
    for name in list(os.environ):
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    server.forget()


@pytest.fixture
def bucket(server, request) -> str:
    name = hashlib.sha256(request.node.nodeid.encode()).hexdigest()[:20]
    server.make_bucket(name)
    server.forget()
    return name


def in_store(server: S3Server, folder: Path, bucket: str, *patterns: str, **storage) -> TinyWorkspace:
    """A workspace whose usage is in ``bucket``."""
    files = [f"s3://{bucket}/{pattern}" for pattern in patterns or ("*.parquet",)]
    return make_workspace(folder, usage=[], config={"usage": {"files": files}, "storage": server.config(**storage)})


def days(*numbers: int) -> dict[str, pl.DataFrame]:
    """A file of usage for each day of October."""
    return {f"{PERIOD}-{day:02}.parquet": hours(first=f"{PERIOD}-{day:02}T00:00:00Z") for day in numbers}


def assert_secret_is_nowhere(root: Path, *outputs: str) -> None:
    texts = [*(text.encode() for text in outputs), *(path.read_bytes() for path in root.rglob("*") if path.is_file())]
    for text in texts:
        assert SECRET.encode() not in text
        assert KEY.encode() not in text


# --------------------------------------------------------------------------------------------------------------- usage


def test_usage_in_a_store_is_billed_as_on_disk(server, bucket, tmp_path):
    usage = {"2026-10/a.parquet": hours(), "2026-10/b.parquet": hours(sku="egress", resource="nic-1")}
    on_disk = make_workspace(tmp_path / "disk", usage={name[8:]: frame for name, frame in usage.items()})
    shop = in_store(server, tmp_path / "store", bucket, "usage/2026-*/*.parquet")
    for name, frame in usage.items():
        server.put(bucket, f"usage/{name}", frame)
    server.put(bucket, "usage/2026-10/", b"")  # a folder, as consoles make them
    server.put(bucket, "usage/2026-10/deeper/other.parquet", b"no match")

    there, here = on_disk.run(), shop.run()

    assert here.code == there.code == ExitCode.DONE, here
    assert here.summary["files"] == {"matched": 2, "loaded": 2, "refused": 0}
    assert shop.documents() == on_disk.documents()
    assert not list((shop.root / "state").rglob("usage.parquet*")), "copies are deleted"


def test_local_files_and_several_patterns_add_up(server, bucket, tmp_path):
    files = ["usage/*.parquet", f"s3://{bucket}/eu/*", f"s3://{bucket}/**/a*", f"s3://{bucket}/us/one.parquet"]
    shop = make_workspace(tmp_path, usage=hours(), config={"usage": {"files": files}, "storage": server.config()})
    server.put(bucket, "eu/a.parquet", hours(resource="vm-2"))
    server.put(bucket, "us/one.parquet", hours(resource="vm-3"))

    ended = shop.run()

    assert ended.summary["files"]["loaded"] == 3
    assert shop.invoice("acme")["totals"]["untaxed"] == "7.20"


def test_only_what_changed_is_downloaded(server, bucket, tmp_path):
    shop = in_store(server, tmp_path, bucket)
    for name, frame in days(1, 2, 3).items():
        server.put(bucket, name, frame)
    shop.run()
    assert server.count("GET", r"\.parquet\?") == 3

    server.forget()
    assert shop.run().summary["periods"][0]["nothing_to_do"]
    assert server.count("GET", r"\.parquet\?") == 0, "nothing changed"

    server.put(bucket, f"{PERIOD}-02.parquet", hours(first=f"{PERIOD}-02T00:00:00Z", quantity="2"))
    assert shop.command("status").summary["waiting_files"] == [f"s3://{bucket}/{PERIOD}-02.parquet"]
    server.forget()
    ended = shop.run()

    assert [request.path for request in server.matching("GET", r"\.parquet\?")] == [f"/{bucket}/{PERIOD}-02.parquet"]
    assert ended.summary["files"]["loaded"] == 1
    assert shop.invoice("acme")["totals"]["untaxed"] == "9.60"


def test_same_content_written_anew_or_known_no_more_is_not_loaded_again(server, bucket, tmp_path):
    shop = in_store(server, tmp_path, bucket)
    server.put(bucket, "a.parquet", good_usage())
    shop.run()
    before = shop.documents()
    content = server.read(bucket, "a.parquet")
    upload = server.client.create_multipart_upload(Bucket=bucket, Key="a.parquet")["UploadId"]
    part = server.client.upload_part(Bucket=bucket, Key="a.parquet", UploadId=upload, PartNumber=1, Body=content)
    server.client.complete_multipart_upload(
        Bucket=bucket, Key="a.parquet", UploadId=upload,
        MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]},
    )  # fmt: skip

    for downloads in (1, 0):
        server.forget()
        ended = shop.run()
        assert ended.summary["files"]["loaded"] == 0
        assert ended.summary["periods"][0]["nothing_to_do"]
        assert server.count("GET", r"a\.parquet\?") == downloads

    (shop.root / "state" / "objects.json").unlink()
    assert shop.run().summary["files"]["loaded"] == 0
    assert shop.documents() == before


def test_an_object_that_a_listing_does_not_show_yet_is_missed_and_comes_next_time(server, bucket, tmp_path):
    shop = in_store(server, tmp_path, bucket)
    files = days(*range(1, 32))
    for name, frame in files.items():
        server.put(bucket, name, frame)
    server.misbehave("GET", "list-type=2", hides(f"{PERIOD}-17.parquet"))
    assert shop.run().summary["files"]["loaded"] == 30

    checklist = {row["point"]: row for row in shop.close("--check").summary["checklist"]}
    assert checklist["usage.files_missing"]["status"] == "open"
    assert f"{PERIOD}-17" in checklist["usage.files_missing"]["detail"]

    server.forget()
    assert shop.run().summary["files"]["loaded"] == 1
    checklist = {row["point"]: row for row in shop.close("--check").summary["checklist"]}
    assert checklist["usage.files_missing"]["status"] == "ok"


def test_an_object_that_goes_stays_billed_with_a_warning(server, bucket, tmp_path):
    shop = in_store(server, tmp_path, bucket)
    server.put(bucket, "a.parquet", good_usage())
    shop.run()
    server.client.delete_object(Bucket=bucket, Key="a.parquet")

    assert shop.run().finding("usage.file_gone")["file"] == f"s3://{bucket}/a.parquet"


def test_a_key_without_wildcards_must_be_there(server, bucket, tmp_path):
    shop = in_store(server, tmp_path, bucket, "a.parquet", "b.parquet")
    server.put(bucket, "a.parquet", good_usage())

    ended = shop.run()

    assert ended.code == ExitCode.DATA_REFUSED
    refusal = ended.finding("usage.file_refused")
    assert (refusal["file"], refusal["message"]) == (
        f"s3://{bucket}/b.parquet", "is named in [usage] files and is not there",
    )  # fmt: skip


def test_a_supplier_s_manifest_beside_the_object_must_agree(server, bucket, tmp_path):
    shop = in_store(server, tmp_path, bucket)
    server.put(bucket, "a.parquet", good_usage())
    server.put(bucket, "a.parquet.manifest.json", json.dumps({"rows": 71}).encode())

    ended = shop.run()

    assert ended.code == ExitCode.DATA_REFUSED
    assert "it has 72 rows, the manifest says 71" in ended.stdout
    assert "differs from a.parquet.manifest.json" in ended.stdout


def test_a_damaged_object_is_set_aside(server, bucket, tmp_path):
    shop = in_store(server, tmp_path, bucket)
    server.put(bucket, "a.parquet", good_usage())
    server.put(bucket, "b.parquet", b"PAR1 and nothing else")
    server.put(bucket, "c.parquet", b"")

    ended = shop.run()

    assert ended.code == ExitCode.DATA_REFUSED
    assert {finding["file"][-9:]: finding["message"][:11] for finding in ended.findings} == {
        "b.parquet": "cut off: it", "c.parquet": "the file is",
    }  # fmt: skip
    assert shop.invoice("acme")["totals"]["untaxed"] == "3.60"


# --------------------------------------------------------------------------------------------------- while it is read


def test_an_object_replaced_while_it_is_read_is_read_as_it_is_now(server, bucket, tmp_path):
    """Listed as one version, another when it is asked for: If-Match tells, and the newest is billed."""
    shop = in_store(server, tmp_path, bucket)
    server.put(bucket, "a.parquet", hours())
    newer = hours(quantity="2")
    server.misbehave("GET", r"/a\.parquet", first(lambda: server.put(bucket, "a.parquet", newer)), times=1)

    ended = shop.run()

    assert ended.code == ExitCode.DONE, ended
    assert shop.invoice("acme")["totals"]["untaxed"] == "4.80"
    assert server.count("GET", r"/a\.parquet") == 2
    server.forget()
    assert shop.run().summary["periods"][0]["nothing_to_do"]
    assert server.count("GET", r"/a\.parquet") == 0, "the version that was read is the one that is remembered"


def test_an_object_removed_while_it_is_read_stops_the_run_which_may_try_again(server, bucket, tmp_path):
    shop = in_store(server, tmp_path, bucket)
    server.put(bucket, "a.parquet", good_usage())
    server.misbehave("GET", r"/a\.parquet", first(lambda: server.client.delete_object(Bucket=bucket, Key="a.parquet")))

    ended = shop.run()

    assert ended.code == ExitCode.TEMPORARY
    assert f"s3://{bucket}/a.parquet was replaced or removed while it was read" in ended.stderr


def test_a_download_that_breaks_goes_on_where_it_broke(server, bucket, tmp_path):
    shop = in_store(server, tmp_path, bucket)
    server.put(bucket, "a.parquet", good_usage())
    server.misbehave("GET", r"/a\.parquet", breaks_after(1_000), times=1)

    ended = shop.run()

    assert ended.code == ExitCode.DONE, ended
    whole, rest = server.matching("GET", r"/a\.parquet")
    assert "RANGE" not in whole.headers
    assert rest.headers["RANGE"] == "bytes=1000-"
    assert rest.headers["IF-MATCH"] == whole.headers["IF-MATCH"]
    assert shop.invoice("acme")["totals"]["untaxed"] == "3.60"


def test_a_download_that_always_breaks_is_temporary_and_leaves_nothing(server, bucket, tmp_path):
    shop = in_store(server, tmp_path, bucket)
    server.put(bucket, "a.parquet", good_usage())
    server.misbehave("GET", r"/a\.parquet", breaks_after(1_000))

    ended = shop.run()

    assert ended.code == ExitCode.TEMPORARY
    assert f"reading s3://{bucket}/a.parquet: no connection to {server.url}, or it broke" in ended.stderr
    assert not list((shop.root / "state").rglob("usage.parquet*"))
    server.forget()
    assert shop.run().code == ExitCode.DONE


HOSTILE = [
    "../../../etc/cron.d/evil.parquet",
    "/absolute.parquet",
    "./dot//slashes.parquet",
    "x/%2e%2e/%2fetc.parquet",
    "=cmd|' /C calc'!A0.parquet",
    "<script>alert(1)</script>.parquet",
    "'; DROP TABLE usage; --.parquet",
    "日本/ü/\u202efdp.parquet",
    "q?versionId=1#fragment&amp;.parquet",
    f"{'long/' * 202}.parquet",
]


def test_keys_mean_nothing_to_this_machine(server, bucket, tmp_path):
    shop = in_store(server, tmp_path / "shop", bucket, "**")
    for number, key in enumerate(HOSTILE):
        server.put(bucket, key, hours(resource=f"vm-{number}", count=1))

    ended = shop.run()

    assert ended.code == ExitCode.DONE, ended
    assert ended.summary["files"]["loaded"] == len(HOSTILE)
    with duckdb.connect(str(shop.root / "published" / "billing.duckdb"), read_only=True) as database:
        names = {name for (name,) in database.execute("SELECT file FROM usage_files").fetchall()}
    assert names == {f"s3://{bucket}/{key}" for key in HOSTILE}
    assert [path.name for path in tmp_path.iterdir()] == ["shop"]
    shown = shop.command("status", json=False)
    assert shown.code == ExitCode.DONE


# -------------------------------------------------------------------------------------------------------------- errors


REFUSALS = {
    # code of the store: (status, exit code, what the message says)
    "AccessDenied": (403, ExitCode.USAGE, "access denied (AccessDenied, HTTP 403) → allow s3:ListBucket to these credentials"),
    "SignatureDoesNotMatch": (403, ExitCode.USAGE, "the store does not accept these credentials"),
    "ExpiredToken": (400, ExitCode.USAGE, "the credentials have expired (ExpiredToken, HTTP 400) → renew them: AWS_ACCESS_KEY_ID"),
    "AuthorizationHeaderMalformed": (400, ExitCode.USAGE, "the bucket is in another region"),
    "RequestTimeTooSkewed": (403, ExitCode.USAGE, "the clock of this machine differs too much from the store's"),
    "MadeUpError": (418, ExitCode.USAGE, "the store refuses (MadeUpError, HTTP 418)"),
    "SlowDown": (503, ExitCode.TEMPORARY, "the store is busy or in trouble (SlowDown, HTTP 503) → run again later"),
    "InternalError": (500, ExitCode.TEMPORARY, "the store is busy or in trouble (InternalError, HTTP 500)"),
}  # fmt: skip


@pytest.mark.parametrize("code", REFUSALS)
def test_a_store_that_refuses_is_told_with_bucket_operation_and_cure(code, server, bucket, tmp_path):
    status, exit_code, told = REFUSALS[code]
    shop = in_store(server, tmp_path, bucket)
    server.misbehave("GET", "list-type=2", answers(status, code, AWSAccessKeyId=KEY, StringToSign=SECRET))

    ended = shop.run()

    assert ended.code == exit_code
    assert f"listing s3://{bucket}/" in ended.stderr
    assert told in ended.stderr
    assert ended.stderr.splitlines()[-1].startswith("error: listing"), "one message, on one line"
    assert_secret_is_nowhere(tmp_path, ended.stdout, ended.stderr)


def test_wrong_credentials_and_none_and_the_secret_is_in_no_message(server, bucket, tmp_path):
    shop = in_store(server, tmp_path, bucket)
    command = ["run", "--period", PERIOD, "--workspace", str(shop.root)]

    wrong = run_process(command, AWS_ACCESS_KEY_ID="AKIAWRONG", AWS_SECRET_ACCESS_KEY=SECRET, RATEMILL_DEBUG="1")
    none = run_process(command, AWS_ACCESS_KEY_ID="", AWS_SECRET_ACCESS_KEY="")
    profile = run_process(command, AWS_ACCESS_KEY_ID="", AWS_SECRET_ACCESS_KEY="", AWS_PROFILE="nobody")

    assert wrong.code == none.code == profile.code == ExitCode.USAGE
    assert "the store does not accept these credentials (InvalidAccessKeyId, HTTP 403) → correct AWS_" in wrong.stderr
    assert f"listing s3://{bucket}/: there are no credentials" in none.stderr
    assert "there are no credentials, or only a part of them (ProfileNotFound) → set AWS_" in profile.stderr
    assert_secret_is_nowhere(tmp_path, wrong.stdout, wrong.stderr, none.stderr, profile.stderr)


def test_without_the_extra_it_is_told_how_to_install_it(server, bucket, tmp_path):
    shop = in_store(server, tmp_path, bucket)
    code = "import sys; sys.modules['boto3'] = None; from ratemill.cli import main; main(sys.argv[1:])"
    ended = subprocess.run(
        [sys.executable, "-c", code, "status", "--workspace", str(shop.root)],
        env={**os.environ, "PYTHONPATH": SOURCE_ROOT}, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert "s3:// URLs need boto3 → install it: pip install 'ratemill[s3]'" in ended.stdout


def test_a_missing_bucket(server, tmp_path):
    ended = in_store(server, tmp_path, "no-such-bucket").run()

    assert ended.code == ExitCode.USAGE
    assert "listing s3://no-such-bucket/: there is no such bucket (NoSuchBucket, HTTP 404) → make it" in ended.stderr


def test_nobody_at_the_endpoint_and_no_such_host(server, tmp_path):
    for endpoint in (f"http://127.0.0.1:{free_port()}", "https://s3.mars-1.invalid"):
        ended = in_store(server, tmp_path, "usage", endpoint_url=endpoint, attempts=1).run()

        assert ended.code == ExitCode.TEMPORARY
        assert (
            f"listing s3://usage/: no connection to {endpoint}, or it broke (EndpointConnectionError)" in ended.stderr
        )
        assert "→ check the network, and [storage] endpoint_url and region; then run again" in ended.stderr


def test_something_else_than_a_store_at_the_endpoint(server, tmp_path):
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _WebSite) as site:
        threading.Thread(target=site.serve_forever, daemon=True).start()
        endpoint = f"http://127.0.0.1:{site.server_port}"
        ended = in_store(server, tmp_path, "usage", endpoint_url=endpoint).run()
        site.shutdown()

    assert ended.code == ExitCode.TEMPORARY
    assert "where it stays so, check [storage] endpoint_url" in ended.stderr


class _WebSite(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"<!doctype html><p>Welcome!<br>")

    def log_message(self, *_):
        pass


def test_status_tells_the_rest_where_the_store_is_away(server, bucket, tmp_path):
    shop = in_store(server, tmp_path, bucket)
    server.put(bucket, "a.parquet", good_usage())
    shop.run()
    server.misbehave("GET", "list-type=2", answers(503, "SlowDown"))

    shown = shop.command("status", json=False)

    assert shown.code == ExitCode.DONE
    assert f"waiting    can't be told: listing s3://{bucket}/: the store is busy" in shown.stdout
    assert PERIOD in shown.stdout


# -------------------------------------------------------------------------------------------------------------- mirror


def mirrored_shop(server: S3Server, folder: Path, bucket: str, **options) -> TinyWorkspace:
    """A workspace with a mirror at ``s3://<bucket>/billing/``."""
    config = {"storage": server.config(mirror=f"s3://{bucket}/billing/"), "output": {"html": True}}
    return make_workspace(folder, config=config, **options)


def manifest_of(server: S3Server, bucket: str) -> dict:
    return server.get(bucket, "billing/manifest.json")


def assert_mirror_is_whole(server: S3Server, bucket: str, shop: TinyWorkspace) -> None:
    """All that is here is there, under the hashes that the manifest gives."""
    named = {file["name"]: file for file in manifest_of(server, bucket)["files"]}
    folders = {"published": shop.root / "published", "out": shop.root / "out", "issued": shop.root / "state" / "issued"}
    here = {name: tree(folder, folder) for name, folder in folders.items()}
    assert {name: file["sha256"] for name, file in named.items()} == {
        f"{folder}/{name}": sha256 for folder, files in here.items() for name, sha256 in files.items() if sha256
    }
    for file in named.values():
        content = server.read(bucket, f"billing/{file['key']}")
        assert (hashlib.sha256(content).hexdigest(), len(content)) == (file["sha256"], file["size"])


def brought_up_when_all_is_old(server: S3Server, bucket: str, shop: TinyWorkspace) -> Mirrored:
    """What bringing the mirror up to date comes to, as if all that is there had been there for long."""
    workspace = find_workspace(shop.root)
    mirror = Mirror.of(workspace)
    about = {name: manifest_of(server, bucket)[name] for name in ("code", "runs", "issued")}
    return Mirror(mirror.store, mirror.folder, keep=timedelta(seconds=-5)).bring_up(files_to_mirror(workspace), about)


def test_a_run_is_mirrored_manifest_last_and_once(server, bucket, tmp_path):
    shop = mirrored_shop(server, tmp_path, bucket)

    ended = shop.run()

    assert ended.code == ExitCode.DONE, ended
    assert_mirror_is_whole(server, bucket, shop)
    written = [request.path.removeprefix(f"/{bucket}/billing/") for request in server.matching("PUT", "/billing/")]
    assert written[-1] == "manifest.json"
    assert written[-2].startswith("manifests/")
    assert len(set(written)) == len(written)
    manifest = manifest_of(server, bucket)
    assert manifest["runs"] == {PERIOD: ended.summary["periods"][0]["run_id"]}

    server.forget()
    assert shop.run().summary["periods"][0]["nothing_to_do"]
    assert server.requests == [], "what is known to be there is not asked for"
    assert shop.command("status").summary["mirror"] == {
        "url": f"s3://{bucket}/billing/", "version": manifest["version"], "is_behind": False, "failed": "",
        "files": len(manifest["files"]), "size": sum(file["size"] for file in manifest["files"]),
    }  # fmt: skip


def test_readers_open_what_the_manifest_names(server, bucket, tmp_path):
    shop = mirrored_shop(server, tmp_path, bucket)
    shop.run()
    expected = pl.read_parquet(shop.root / "published" / "parquet" / "charges", hive_partitioning=False)
    storage = Storage(**server.config())

    manifest = manifest_of(server, bucket)
    keys = [file["key"] for file in manifest["files"] if file["name"].startswith("published/parquet/charges/")]
    by_polars = pl.read_parquet(
        [f"s3://{bucket}/billing/{key}" for key in keys],
        storage_options={
            "aws_endpoint_url": server.url, "aws_allow_http": "true", "aws_region": "us-east-1",
            "aws_access_key_id": KEY, "aws_secret_access_key": SECRET,
        },
    )  # fmt: skip
    filesystem = S3FileSystem(endpoint_override=server.url, scheme="http", region="us-east-1")
    charges = ds.dataset([f"{bucket}/billing/{key}" for key in keys], filesystem=filesystem)
    with duckdb.connect() as connection:
        (by_duckdb,) = connection.register("charges", charges).execute("SELECT sum(cost) FROM charges").fetchone()

    assert by_polars.equals(expected)
    assert by_duckdb == expected["cost"].sum()
    copy = tmp_path / "copy.duckdb"
    (database,) = (file for file in manifest["files"] if file["name"] == "published/billing.duckdb")
    url = ObjectUrl(bucket, f"billing/{database['key']}")
    (found,) = ObjectStore(storage).objects(url)
    assert ObjectStore(storage).download(found, copy) == database["sha256"]
    with duckdb.connect(str(copy), read_only=True) as opened:
        assert opened.execute("SELECT sum(cost) FROM charges").fetchone() == (expected["cost"].sum(),)


def test_the_sql_of_the_docs_reads_a_copied_mirror(server, bucket, tmp_path):
    shop = mirrored_shop(server, tmp_path / "shop", bucket)
    shop.run()
    for key in server.keys(bucket):
        target = tmp_path / "s3" / key
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(server.read(bucket, key))
    page = (Path(__file__).parents[2] / "docs" / "object-stores.md").read_text(encoding="utf-8")
    (query,) = (block.partition("```")[0] for block in page.split("```sql\n")[1:])

    with duckdb.connect() as connection:
        last = connection.execute(query.replace("s3://bucket/billing", str(tmp_path / "s3" / "billing")))
        rows = last.fetchall()

    expected = pl.read_parquet(shop.root / "published" / "parquet" / "charges", hive_partitioning=False)
    assert rows == [(PERIOD, "EUR", expected["cost"].sum())]


def test_a_close_is_mirrored_with_what_was_issued(server, bucket, tmp_path):
    shop = mirrored_shop(server, tmp_path, bucket, usage=month_of_usage(), book={"accounts": ADDRESSED})
    shop.run()
    drafts = manifest_of(server, bucket)

    ended = shop.close()

    assert ended.code == ExitCode.DONE, ended
    assert_mirror_is_whole(server, bucket, shop)
    issued = manifest_of(server, bucket)
    assert issued["issued"] == {PERIOD: 2}
    assert {name.partition("/")[0] for name in (file["name"] for file in issued["files"])} == {
        "published",
        "out",
        "issued",
    }
    for file in drafts["files"]:
        assert server.read(bucket, f"billing/{file['key']}"), "whoever began with the drafts can read on"


def test_a_close_stands_where_its_mirror_fails_and_the_same_command_goes_on_with_it(server, bucket, tmp_path):
    shop = mirrored_shop(server, tmp_path, bucket, usage=month_of_usage(), book={"accounts": ADDRESSED})
    shop.run()
    server.misbehave("PUT", "/objects/", answers(503, "SlowDown"))

    ended = shop.close()

    assert ended.code == ExitCode.TEMPORARY
    assert "the mirror is behind" in ended.stderr
    (closed,) = shop.command("status").summary["closed"]
    assert (closed["period"], closed["invoices"]) == (PERIOD, 2)
    assert manifest_of(server, bucket)["issued"] == {}

    server.forget()
    again = shop.close()
    assert (again.code, again.summary["nothing_to_do"]) == (ExitCode.DONE, True)
    assert manifest_of(server, bucket)["issued"] == {PERIOD: 2}
    assert_mirror_is_whole(server, bucket, shop)


def test_an_upload_that_breaks_leaves_readers_where_they_are_and_the_next_goes_on(server, bucket, tmp_path):
    shop = mirrored_shop(server, tmp_path, bucket)
    shop.run()
    before = manifest_of(server, bucket)
    shop.write_usage("more.parquet", hours(resource="vm-2"))
    server.forget()
    server.misbehave("PUT", r"/billing\.duckdb", hangs_up)

    broken = shop.run()

    assert broken.code == ExitCode.TEMPORARY
    assert "the mirror is behind: writing s3://" in broken.stderr
    assert f"{bucket}/billing/objects/" in broken.stderr
    assert "Everything on this machine is done and right; the same command again goes on" in broken.stderr
    assert manifest_of(server, bucket) == before
    assert shop.invoice("acme")["totals"]["untaxed"] == "6.00", "billed and published here"
    state = shop.command("status").summary["mirror"]
    assert (state["is_behind"], state["version"]) == (True, before["version"])
    assert "no connection" in state["failed"]
    assert "is behind" in shop.command("status", json=False).stdout

    uploaded = set(server.keys(bucket, "billing/objects/"))
    server.forget()
    assert shop.run().code == ExitCode.DONE
    again = {request.path.removeprefix(f"/{bucket}/") for request in server.matching("PUT", "/objects/")}
    assert again
    assert not again & uploaded, "what was uploaded is not uploaded again"
    assert_mirror_is_whole(server, bucket, shop)
    assert not shop.command("status").summary["mirror"]["is_behind"]


@pytest.mark.parametrize("moment", [r"/manifests/", r"/billing/manifest\.json", r"/billing\.duckdb"])
def test_killed_before_the_manifest_readers_see_the_former_state(moment, server, bucket, tmp_path):
    shop = mirrored_shop(server, tmp_path, bucket)
    shop.run()
    before = manifest_of(server, bucket)
    shop.write_usage("more.parquet", hours(resource="vm-2"))
    process: list[subprocess.Popen[bytes]] = []
    server.misbehave("PUT", moment, first(lambda: os.kill(process[0].pid, signal.SIGKILL)), times=1)
    server.misbehave("PUT", moment, answers(500, "InternalError"))  # the request that was under way goes nowhere

    process.append(
        subprocess.Popen(
            [sys.executable, "-m", "ratemill", "run", "--period", PERIOD, "--workspace", str(shop.root)],
            env={**os.environ, "PYTHONPATH": SOURCE_ROOT}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )
    )  # fmt: skip
    assert process[0].wait(120) == -signal.SIGKILL
    server.forget()

    if moment != r"/billing/manifest\.json":  # that one was taken before the kill, whole
        assert manifest_of(server, bucket) == before
    for file in manifest_of(server, bucket)["files"]:
        assert server.read(bucket, f"billing/{file['key']}")
    assert shop.command("status").summary["mirror"]["is_behind"]
    assert shop.run().code == ExitCode.DONE
    assert_mirror_is_whole(server, bucket, shop)


FULL = {
    "QuotaExceeded": (403, ExitCode.TEMPORARY, "the bucket is full (QuotaExceeded, HTTP 403) → make room"),
    "InsufficientStorage": (507, ExitCode.TEMPORARY, "the bucket is full (InsufficientStorage, HTTP 507)"),
    "XMinioStorageFull": (507, ExitCode.TEMPORARY, "the bucket is full"),
    "EntityTooLarge": (400, ExitCode.USAGE, "the store takes no object as large as this"),
    "AccessDenied": (403, ExitCode.USAGE, "access denied (AccessDenied, HTTP 403) → allow s3:PutObject to these credentials"),
}  # fmt: skip


def test_a_store_that_takes_no_more(server, bucket, tmp_path):
    shop = mirrored_shop(server, tmp_path, bucket)
    for code, (status, exit_code, told) in FULL.items():
        server.forget()
        server.misbehave("PUT", "/objects/", answers(status, code, AWSAccessKeyId=KEY, StringToSign=SECRET))

        ended = shop.run()

        assert ended.code == exit_code, code
        assert f"the mirror is behind: writing s3://{bucket}/billing/objects/" in ended.stderr
        assert told in ended.stderr
        assert_secret_is_nowhere(tmp_path, ended.stdout, ended.stderr)
    server.forget()
    assert shop.command("publish").summary["mirror"]["uploaded"] > 0
    assert_mirror_is_whole(server, bucket, shop)
    assert all(SECRET not in server.read(bucket, key).decode("latin-1") for key in server.keys(bucket))


def test_a_large_file_goes_up_in_parts_and_a_failure_leaves_none(server, bucket, tmp_path):
    large = tmp_path / "large.duckdb"
    large.write_bytes(os.urandom(9_000_000))
    store = ObjectStore(Storage(**server.config()))
    url = ObjectUrl(bucket, "billing/objects/large.duckdb")
    server.misbehave("PUT", "partNumber=2", answers(507, "QuotaExceeded"))
    with pytest.raises(Exception, match="the bucket is full"):
        store.upload([(large, url)])
    assert "Uploads" not in server.client.list_multipart_uploads(Bucket=bucket)
    assert server.keys(bucket) == []

    server.forget()
    store.upload([(large, url)])
    assert server.read(bucket, url.key) == large.read_bytes()

    server.client.create_multipart_upload(Bucket=bucket, Key=url.key)  # as a killed process leaves it
    assert store.abort_uploads(ObjectUrl(bucket, "billing/"), before=datetime(2000, 1, 1, tzinfo=UTC)) == 0
    assert store.abort_uploads(ObjectUrl(bucket, "billing/"), before=datetime(2100, 1, 1, tzinfo=UTC)) == 1
    assert "Uploads" not in server.client.list_multipart_uploads(Bucket=bucket)


def test_former_versions_stay_for_as_long_as_they_may_be_read(server, bucket, tmp_path):
    shop = mirrored_shop(server, tmp_path, bucket)
    shop.run()
    first_version = manifest_of(server, bucket)
    server.put(bucket, "billing/objects/0000/of-an-upload-that-was-cut-off", b"x")
    server.put(bucket, "other/objects/of-somebody-else", b"x")
    shop.write_usage("more.parquet", hours(resource="vm-2"))
    shop.run()
    for file in first_version["files"]:
        assert server.read(bucket, f"billing/{file['key']}")

    assert Mirror.of(find_workspace(shop.root)).keep == timedelta(days=30)
    collected = brought_up_when_all_is_old(server, bucket, shop)

    assert (collected.uploaded, collected.trouble) == (0, "")
    assert collected.collected > 1
    assert_mirror_is_whole(server, bucket, shop)
    named = {f"billing/{file['key']}" for file in manifest_of(server, bucket)["files"]}
    assert set(server.keys(bucket, "billing/objects/")) == named
    assert len(server.keys(bucket, "billing/manifests/")) == 1
    assert server.keys(bucket, "other/") == ["other/objects/of-somebody-else"]


def test_a_store_that_lets_nothing_be_deleted_is_no_failure(server, bucket, tmp_path):
    shop = mirrored_shop(server, tmp_path, bucket)
    server.misbehave("GET", "uploads", answers(403, "AccessDenied"))

    ended = shop.run()

    assert ended.code == ExitCode.DONE
    assert "mirror: old objects are still there: clearing s3://" in ended.stderr
    assert_mirror_is_whole(server, bucket, shop)

    server.forget()
    server.misbehave("POST", "delete", deletes_nothing)
    shop.write_usage("more.parquet", hours(resource="vm-2"))
    shop.run()
    refused = brought_up_when_all_is_old(server, bucket, shop)
    assert "access denied (AccessDenied" in refused.trouble
    assert "→ allow s3:DeleteObject to these credentials" in refused.trouble


def test_objects_that_somebody_deleted_come_back(server, bucket, tmp_path):
    shop = mirrored_shop(server, tmp_path, bucket)
    shop.run()
    version = manifest_of(server, bucket)["version"]
    doomed = [key for key in server.keys(bucket, "billing/objects/") if key.endswith(".html")]
    for key in doomed:
        server.client.delete_object(Bucket=bucket, Key=key)

    (shop.root / "state" / "mirror.json").unlink()
    mirrored = shop.command("publish").summary["mirror"]

    assert doomed
    assert (mirrored["uploaded"], mirrored["version"]) == (len(doomed), version)
    assert_mirror_is_whole(server, bucket, shop)
