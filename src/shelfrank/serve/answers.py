"""Answers as JSON."""

import json
from typing import Any

from starlette.responses import Response


def as_json(content: Any, status: int = 200) -> Response:
    """Plain data as a response, unvalidated: checking a page against its model takes longer than ranking it."""
    return Response(json.dumps(content, allow_nan=False), status, media_type="application/json")
