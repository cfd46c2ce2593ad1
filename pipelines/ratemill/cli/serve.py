"""``ratemill serve``: the Billing API."""

from __future__ import annotations

from typing import Annotated

import typer

from ratemill.cli.shared import LogFormatOption, QuietOption, WorkspaceOption, open_workspace
from ratemill.errors import UsageError


def serve(
    host: Annotated[str, typer.Option("--host", metavar="ADDRESS", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Port to listen on; 0: any free one.")] = 8080,
    allow_remote: Annotated[
        bool, typer.Option("--allow-remote", help="Let --host be an address that other machines reach: without TLS.")
    ] = False,
    proxy_headers: Annotated[
        bool,
        typer.Option("--proxy-headers", help="Believe X-Forwarded-For and X-Forwarded-Proto of the trusted proxies."),
    ] = False,
    trusted_proxy: Annotated[
        list[str] | None,
        typer.Option(
            "--trusted-proxy", metavar="ADDRESS", show_default=False, help="Address of a proxy; else 127.0.0.1."
        ),
    ] = None,
    workers: Annotated[int, typer.Option("--workers", min=1, max=64, help="Processes.")] = 1,
    rate_limit: Annotated[
        int, typer.Option("--rate-limit", min=1, metavar="N", help="Requests of a key per minute, in each process.")
    ] = 600,
    wrong_keys: Annotated[
        int,
        typer.Option("--wrong-keys", min=1, metavar="N", help="Wrong keys per minute before an address is refused."),
    ] = 10,
    memory: Annotated[
        int, typer.Option("--memory", min=64, metavar="MIB", help="Memory of the database, in each process.")
    ] = 512,
    timeout: Annotated[
        float, typer.Option("--timeout", min=1, metavar="SECONDS", help="A query that takes longer is stopped.")
    ] = 20,
    workspace: WorkspaceOption = None,
    quiet: QuietOption = False,
    log_format: LogFormatOption = "text",
) -> None:
    """Serve the Billing API: what was published, each key seeing its own part.

    Reads published/ and the documents of issued invoices; writes state/api.sqlite (keys, accesses) and nothing else. A
    run may publish meanwhile: the next answer is from what is new. SIGTERM lets requests under way finish. Needs
    ratemill[api]; make keys with: ratemill keys create.
    """
    require_api()
    from ratemill.api.app import Settings  # noqa: PLC0415 - heavy libraries, not needed for --help
    from ratemill.api.serving import Listening, serve  # noqa: PLC0415

    if trusted_proxy and not proxy_headers:
        raise UsageError("--trusted-proxy says whose headers are believed with --proxy-headers; give both")
    opened = open_workspace(workspace, log_format=log_format, quiet=quiet)
    serve(
        opened,
        Listening(
            host=host,
            port=port,
            allow_remote=allow_remote,
            trusted_proxies=tuple(trusted_proxy or ("127.0.0.1",)) if proxy_headers else (),
            workers=workers,
        ),
        Settings(
            memory=f"{memory}MiB",
            query_seconds=timeout,
            requests_per_minute=rate_limit,
            failures_per_minute=wrong_keys,
        ),
        log_format=log_format,
        quiet=quiet,
    )


def require_api() -> None:
    """Go on if the libraries of the API are there.

    Raises:
        UsageError: they are not.
    """
    try:
        import argon2  # noqa: F401, PLC0415
        import fastapi  # noqa: F401, PLC0415
        import limits  # noqa: F401, PLC0415
        import uvicorn  # noqa: F401, PLC0415
    except ImportError as error:
        raise UsageError(f"the Billing API needs {error.name} → run: pip install 'ratemill[api]'") from None
