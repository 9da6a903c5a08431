"""The page: what a browser is given at `/`, and what it has to know before it asks anything."""

from __future__ import annotations

import mimetypes
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from fastapi import APIRouter
from fastapi.responses import Response

from turnsmith.serve.doors import Asking

BUILT = Path(__file__).with_name("page")  # what `make page` makes of page/
INDEX = "index.html"
ONLY = {  # what the page may do: ask this server, and run what came from it
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "img-src": "'self' data:",
    "font-src": "'self'",
    "connect-src": "'self'",
    "frame-src": "'self'",
    "base-uri": "'none'",
    "form-action": "'none'",
    "frame-ancestors": "'none'",
}
GUARDED = {
    "Content-Security-Policy": "; ".join(f"{name} {value}" for name, value in ONLY.items()),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
ANEW = "no-cache"  # asked for again each time: it names the newest build
FOREVER = "public, max-age=31536000, immutable"  # names of assets have a digest of what is in them


def routes(criteria: Sequence[str], *, kept: bool) -> APIRouter:
    """The routes. criteria: of scales. kept: whether a store keeps what is said. Files are read once, and
    nothing but these can be asked for."""
    made = APIRouter(tags=["page"])

    @made.get("/v1/page")
    async def page(asking: Asking) -> dict[str, Any]:
        return {"name": asking.name, "role": asking.role, "kept": kept, "criteria": list(criteria)}

    for name, content in built().items():
        path = "/" if name == INDEX else f"/{name}"
        made.add_api_route(path, partial(_given, name, content), include_in_schema=False)
    return made


def built(place: Path = BUILT) -> dict[str, bytes]:
    """The files of the build by their names below `place`."""
    found = sorted(one for one in place.rglob("*") if one.is_file())
    return {one.relative_to(place).as_posix(): one.read_bytes() for one in found}


async def _given(name: str, content: bytes) -> Response:
    kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
    lasting = FOREVER if name.startswith("assets/") else ANEW
    return Response(content, media_type=kind, headers={**GUARDED, "Cache-Control": lasting})
