"""URLs of objects, patterns of them, and the settings that name them."""

from __future__ import annotations

import fnmatch

import pytest

from ratemill.config import Storage, Usage, parse_config
from ratemill.errors import UsageError
from ratemill.io.usage_objects import KnownContents
from ratemill.object_urls import ObjectUrl, has_wildcards, is_object_url


@pytest.mark.parametrize(
    ("pattern", "matching", "others"),
    [
        ("usage/*.parquet", ["usage/a.parquet", "usage/.parquet"], ["usage/b/a.parquet", "a.parquet", "usage/a.parquet.1"]),
        ("2026-*/*.parquet", ["2026-10/a.parquet", "2026-/b.parquet"], ["2026-10/x/a.parquet", "12026-10/a.parquet"]),
        ("**/a.parquet", ["a.parquet", "x/a.parquet", "x/y/a.parquet"], ["ba.parquet"]),
        ("usage/**", ["usage/a", "usage/b/c"], ["usage", "other/a"]),
        ("a?.parquet", ["ab.parquet", "a..parquet"], ["a.parquet", "a/.parquet", "abc.parquet"]),
        ("[ab]*", ["a", "b1"], ["c", "[ab]"]),
        ("[!ab]", ["c"], ["a", "b", "/"]),
        ("[]]", ["]"], ["["]),
        ("x[", ["x["], ["x"]),
        ("part-[0-9].parquet", ["part-3.parquet"], ["part-a.parquet"]),
        ("a+b(c)|d.$^\\", ["a+b(c)|d.$^\\"], ["aab(c)", "d."]),
        ("one.parquet", ["one.parquet"], ["two.parquet", "oneXparquet"]),
        ("line\n*", ["line\nbreak"], ["line break"]),
    ],
)  # fmt: skip
def test_a_pattern_means_what_it_means_for_files(pattern, matching, others):
    url = ObjectUrl("bucket", pattern)

    assert [key for key in (*matching, *others) if url.matches(key)] == matching
    assert all(key.startswith(url.fixed_part()) for key in matching)


@pytest.mark.parametrize("pattern", ["*.parquet", "a?c", "[a-c]x", "[!a]b", "x[]y]z"])
@pytest.mark.parametrize("key", ["a.parquet", "abc", "bx", "cb", "x]z", "xyz", ".parquet"])
def test_within_a_folder_it_is_the_rule_of_the_shell(pattern, key):
    assert ObjectUrl("b", pattern).matches(key) == fnmatch.fnmatchcase(key, pattern)


def test_urls_are_put_together_and_taken_apart():
    url = ObjectUrl.parse("s3://bucket/a/../%2e%2e/b")

    assert (url.bucket, url.key, str(url)) == ("bucket", "a/../%2e%2e/b", "s3://bucket/a/../%2e%2e/b")
    assert str(ObjectUrl.parse("s3://bucket")) == "s3://bucket/"
    assert [str(ObjectUrl.parse(folder) / "x/y") for folder in ("s3://b-1", "s3://b-1/", "s3://b-1/f", "s3://b-1/f/")] == [
        "s3://b-1/x/y", "s3://b-1/x/y", "s3://b-1/f/x/y", "s3://b-1/f/x/y",
    ]  # fmt: skip
    assert is_object_url("s3://bucket/*")
    assert is_object_url("gs://bucket/*"), "no path either: it is refused, and not looked for on disk"
    assert not is_object_url("usage/s3:/x")
    assert has_wildcards("a?")


@pytest.mark.parametrize(
    "wrong", ["gs://bucket/a", "https://bucket/a", "s3://", "s3:///key", "s3://*/key", "s3://b", "s3://a b/c"]
)
def test_what_is_no_url_of_a_store_is_refused_with_the_settings(wrong):
    with pytest.raises(UsageError) as told:
        parse_config({"seller": {"name": "X", "country": "FR"}, "usage": {"files": [wrong]}})

    assert str(told.value) == (
        f"ratemill.toml: usage.files = {(wrong,)!r}: {wrong!r} is no URL such as s3://bucket/folder/*.parquet;"
        " other stores are not supported"
    ).replace(repr((wrong,)), repr([wrong]))


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ({"endpoint_url": "http://minio:9000"}, "without encryption everybody on the way can read it"),
        ({"endpoint_url": "minio:9000"}, "no URL such as https://minio.example.com"),
        ({"endpoint_url": "https://minio/path"}, "no URL such as https://minio.example.com"),
        ({"mirror": "https://bucket/x"}, "is no URL such as s3://"),
        ({"mirror": "s3://bucket/*"}, "has wildcards, and must name one folder"),
        ({"region": "eu west"}, "storage.region = 'eu west'"),
        ({"secret_access_key": "hush"}, "unknown key storage.secret_access_key"),
        ({"acess_key": "hush"}, "unknown key storage.acess_key"),
    ],
)
def test_wrong_settings_of_a_store_are_told(setting, told):
    with pytest.raises(UsageError) as refused:
        parse_config({"seller": {"name": "X", "country": "FR"}, "storage": setting})

    assert told in str(refused.value)
    assert "hush" not in str(refused.value)


def test_a_password_in_the_endpoint_is_refused_and_not_repeated():
    with pytest.raises(UsageError) as refused:
        parse_config({"seller": {"name": "X", "country": "FR"}, "storage": {"endpoint_url": "https://key:hush@minio"}})

    assert str(refused.value) == (
        "ratemill.toml: storage.endpoint_url = 'https://…@minio': no URL such as https://minio.example.com, without user,"
        " password and path"
    )


def test_where_things_are_never_makes_a_period_billed_anew():
    seller = {"seller": {"name": "X", "country": "FR"}}
    here = parse_config(seller)
    there = parse_config(
        seller | {"storage": {"mirror": "s3://bucket/x", "region": "eu-west-1"}, "usage": {"files": ["s3://b-1/*"]}}
    )

    assert here.fingerprint() == there.fingerprint()
    assert Usage().fingerprint() == there.usage.fingerprint()
    assert Storage(allow_http=True, endpoint_url="http://minio:9000").endpoint_url == "http://minio:9000"


def test_what_is_known_of_objects_is_only_a_cache(tmp_path):
    path = tmp_path / "objects.json"
    path.write_text("{ cut of", encoding="utf-8")

    with KnownContents.read(path) as contents:
        pass

    assert path.read_text(encoding="utf-8") == "{ cut of", "nothing learnt, nothing written"
    assert contents == KnownContents(path)
