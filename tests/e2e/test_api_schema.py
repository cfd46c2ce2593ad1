"""The API held against its own description: schemathesis makes requests from /openapi.json, right and wrong ones."""

from __future__ import annotations

import subprocess
import sys

import pytest

from api_server import new_key, serving_process
from members import make_customers
from ratemill.errors import ExitCode

pytestmark = pytest.mark.slow


def test_what_the_api_does_is_what_it_says(tmp_path):
    shop = make_customers(tmp_path / "customers", months=1, documents=False)
    assert shop.run().code == ExitCode.DONE
    secret = new_key(shop, "--organization", "kestrel", "--role", "billing_manager")["secret"]
    with serving_process(shop, "--rate-limit", "1000000", "--wrong-keys", "1000000") as server:
        ended = subprocess.run(
            [
                sys.executable, "-m", "schemathesis.cli", "run", f"{server.url}/openapi.json",
                "--header", f"Authorization: Bearer {secret}", "--max-examples", "25", "--workers", "1",
                "--seed", "1", "--no-color", "--request-timeout", "30",
                # Cursors are texts that only the server makes, and some parameters go together only.
                "--exclude-checks", "positive_data_acceptance",
            ],
            cwd=tmp_path, capture_output=True, text=True, timeout=500, check=False,
        )  # fmt: skip
        assert ended.returncode == 0, ended.stdout[-6000:] + ended.stderr[-2000:]
        errors = [line for line in server.log if line["level"] == "error"]
        assert errors == []
