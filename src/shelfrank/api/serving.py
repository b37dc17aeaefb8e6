"""The service: the command line's, as it holds the process."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from shelfrank.api.arguments import Location, Precision, checked, optional_path


@checked
def serve(
    bundle: Location,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    workers: int = 1,
    precision: Precision = "fp32",
    keys: Sequence[str] = (),
    deadline_ms: float = 200.0,
    max_body_kb: int = 2000,
    poll_s: float = 2.0,
    drain_s: float = 0.0,
    state: Location | None = None,
    page: bool | None = None,
    overload: Literal["refuse", "engine_order"] = "refuse",
    max_connections: int = 1000,
    allowed_hosts: Sequence[str] = (),
) -> None:
    """Serves a bundle over HTTP until SIGTERM.

    Args:
        bundle: A bundle's folder.
        host: Address; any but the machine's own needs an API key.
        port: Port; 0 takes a free one.
        workers: Processes; one per core.
        precision: In which precision graphs compute.
        keys: API keys that are accepted; without any, all requests are.
        deadline_ms: Milliseconds after which the engine's own order comes back.
        max_body_kb: Max kilobytes of a body.
        poll_s: Seconds between two looks for another version.
        drain_s: On SIGTERM, seconds of answering while `/readyz` says no.
        state: Folder of recent events, which outlive a restart there.
        page: Whether the page is served at `/`; None serves it on this machine's own address.
        overload: What a page gets that cannot be ranked in time: `refuse` answers 503 at once, `engine_order` in the
            engine's own order.
        max_connections: Connections of each process.
        allowed_hosts: Further names in the `Host` header that a service without keys answers.

    Raises:
        UserError: Where the bundle has no complete version, or the address cannot be bound.
    """
    from shelfrank.serve.limits import is_loopback
    from shelfrank.serve.worker import ServeSettings
    from shelfrank.serve.worker import serve as run

    run(
        ServeSettings(
            store=Path(bundle),
            host=host,
            port=port,
            workers=workers,
            precision=precision,
            keys=tuple(keys),
            deadline_s=deadline_ms / 1e3,
            max_body_bytes=max_body_kb * 1000,
            poll_s=poll_s,
            drain_s=drain_s,
            state=optional_path(state),
            has_page=is_loopback(host) if page is None else page,
            overload=overload,
            max_connections=max_connections,
            allowed_hosts=tuple(allowed_hosts),
        )
    )
