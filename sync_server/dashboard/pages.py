"""``/`` and ``/assets/``: the dashboard, one page and its files, as they lie beside this module.

The page names its files by ``assets/<digest of all of them>/``, so that a browser may keep them for ever and never
mixes two versions. Any other word in the digest's place gives the same files, to be asked for again each time:
``/assets/latest/js/sync.js`` is the client library for other pages. All links are relative: it works below any path.
"""

import gzip
import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sync_core.problems import NotFound

__all__ = ["ASSETS_PREFIX", "PAGE_PATH", "Pages"]

PAGE_PATH = "/"
ASSETS_PREFIX = "/assets/"

_HERE = Path(__file__).parent
_TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".webmanifest": "application/json"}
_MAIN = "app/main.js"
_IMPORT = re.compile(rb"""^(?:import|export)\b[^'"]*?from '(\.[^']+)';""", re.MULTILINE)
_FOR_EVER = "public, max-age=31536000, immutable"
_ASK_AGAIN = "no-cache"
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"  # text never becomes markup, not even by a slip
)


@dataclass(frozen=True, slots=True)
class _File:
    """A file as it is sent."""

    media_type: str
    content: bytes
    packed: bytes
    tag: str

    @classmethod
    def of(cls, content: bytes, media_type: str) -> "_File":
        tag = hashlib.sha256(content).hexdigest()[:16]
        return cls(media_type, content, gzip.compress(content, 6, mtime=0), tag)


class Pages:
    """The endpoints. The files are read when they are first asked for."""

    def routes(self) -> list[Route]:
        """The page, and the files it is made of."""
        return [Route(PAGE_PATH, self.page), Route(ASSETS_PREFIX + "{digest}/{path:path}", self.asset)]

    async def page(self, http: Request) -> Response:
        """The page; it changes with any of its files."""
        return _response(http, self._page, _ASK_AGAIN, {"Content-Security-Policy": _POLICY})

    async def asset(self, http: Request) -> Response:
        """A file of the page."""
        file = self._files.get(http.path_params["path"])
        if file is None:
            raise NotFound("There is no such file.")
        return _response(http, file, _FOR_EVER if http.path_params["digest"] == self._digest else _ASK_AGAIN, {})

    @cached_property
    def _files(self) -> Mapping[str, _File]:
        """By path below this directory."""
        paths = sorted(path for path in _HERE.rglob("*") if path.suffix in _TYPES)
        return {path.relative_to(_HERE).as_posix(): _File.of(path.read_bytes(), _TYPES[path.suffix]) for path in paths}

    @cached_property
    def _digest(self) -> str:
        text = " ".join(f"{name}={file.tag}" for name, file in self._files.items())
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @cached_property
    def _page(self) -> _File:
        assets = f"{ASSETS_PREFIX[1:]}{self._digest}"
        html = (_HERE / "index.html").read_text(encoding="utf-8").replace("{assets}", assets)
        preload = "\n".join(f'<link rel="modulepreload" href="{assets}/{name}">' for name in self._modules())
        return _File.of(html.replace("{modules}", preload).encode(), "text/html")

    def _modules(self) -> Iterator[str]:
        """All that the page imports, so that a browser need not find out level by level."""
        seen, waiting = {_MAIN}, [_MAIN]
        while waiting:
            name = waiting.pop()
            yield name
            for match in _IMPORT.finditer(self._files[name].content):
                imported = _joined(PurePosixPath(name).parent, match[1].decode())
                if imported not in seen:
                    seen.add(imported)
                    waiting.append(imported)


def _joined(directory: PurePosixPath, relative: str) -> str:
    parts = list(directory.parts)
    for part in PurePosixPath(relative).parts:
        if part == "..":
            parts.pop()
        else:
            parts.append(part)
    return "/".join(parts)


def _response(http: Request, file: _File, caching: str, more: Mapping[str, str]) -> Response:
    # A weak tag: packed or not, it is the same file.
    tag = f'W/"{file.tag}"'
    headers = {"Cache-Control": caching, "ETag": tag, "Vary": "Accept-Encoding", **more}
    if tag in [given.strip() for given in http.headers.get("if-none-match", "").split(",")]:
        return Response(status_code=304, headers=headers)
    if "gzip" in http.headers.get("accept-encoding", ""):
        return Response(file.packed, media_type=file.media_type, headers={**headers, "Content-Encoding": "gzip"})
    return Response(file.content, media_type=file.media_type, headers=headers)
