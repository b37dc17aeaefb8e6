"""Responses as JSON."""

import json
from typing import Any

import orjson
from starlette.responses import Response

from shelfrank.serve.api import Problem

EVENTS_REFUSED: dict[int | str, dict[str, Any]] = {
    503: {
        "model": Problem,
        "description": "The events could not be written: none was accepted, and they may be sent again.",
    }
}


def as_json(content: Any, status: int = 200) -> Response:
    """Makes a response of plain data, unvalidated: validating a page takes longer than ranking it."""
    try:
        body = orjson.dumps(content)
    except TypeError:
        # A returned document may hold half a character or a huge number; NaN and infinity become null.
        plain = json.loads(json.dumps(content), parse_constant=lambda _: None)
        body = json.dumps(plain, allow_nan=False).encode()
    return Response(body, status, media_type="application/json")
