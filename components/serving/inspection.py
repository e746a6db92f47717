"""The endpoints behind the playground: tokens, a look inside, lineage, and the page itself."""

from collections.abc import Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse, RedirectResponse, Response

from components.serving import replies, schemas, tokenizing
from components.serving.engine import BASE, RequestError
from components.serving.errors import documented
from components.serving.gateway import Gateway
from components.serving.inside import Inside
from components.serving.keys import Key
from components.serving.replying import attended
from components.serving.work import deadline

PAGE = Path(__file__).parent / "playground"
KINDS = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
POLICY = {
    # the page shows what models wrote: nothing of it may run, and nothing leaves for elsewhere
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",
}
ERRORS = documented(400, 401, 404, 413, 429, 503, 504)


@dataclass(frozen=True)
class Outlook:
    """What a workspace shows beside its models.

    tokenizers: their folders by name, which may be gone for a moment. lineage: everything that made
    the answers of a fingerprint.
    """

    tokenizers: Mapping[str, Path] = field(default_factory=dict)
    lineage: Callable[[str], dict[str, Any]] | None = None


def routes(gateway: Gateway, outlook: Outlook) -> APIRouter:
    """`/v1/tokenize`, `/v1/tokenizers`, `/v1/inspect/...`, `/v1/lineage`, `/playground`."""
    router = APIRouter()

    @router.get("/v1/tokenizers", response_model=replies.TokenizerList, responses=documented(401))
    def tokenizers() -> Any:
        """The tokenizers of this workspace; the first is that of the models."""
        return {"data": tokenizing.described(_tokenizers(gateway, outlook))}

    @router.post("/v1/tokenize", response_model=replies.Tokens, responses=ERRORS)
    def tokenize(body: schemas.TokenizeRequest, request: Request) -> Any:
        """Cut a text into tokens."""
        if body.model is not None:
            gateway.current.now.known(body.model, request.state.key)
        folders = _tokenizers(gateway, outlook)
        most = gateway.limits.prompt_tokens
        return tokenizing.tokenize(folders, body.tokenizer, body.input, most)

    @router.post("/v1/inspect/predictions", response_model=replies.Predictions, responses=ERRORS)
    async def predictions(body: schemas.InspectRequest, request: Request) -> Any:
        """What a model expects after each token of a prompt."""
        return await _looked(gateway, request, body.model, lambda m: m.predictions(body.prompt))

    @router.post("/v1/inspect/attention", response_model=replies.Attention, responses=ERRORS)
    async def attention(body: schemas.AttentionRequest, request: Request) -> Any:
        """Where one head of one layer attends."""
        return await _looked(
            gateway, request, body.model, lambda m: m.attention(body.prompt, body.layer, body.head)
        )

    @router.get(
        "/v1/inspect/neighbours/{model}", response_model=replies.Neighbours, responses=ERRORS
    )
    async def neighbours(model: str, request: Request) -> Any:
        """Which tokens the vectors of a soft prompt lie nearest to."""
        return await _looked(gateway, request, model, lambda m: m.neighbours())

    @router.get("/v1/lineage/{identity}", response_model=replies.Lineage, responses=ERRORS)
    def lineage(identity: str, request: Request) -> Any:
        """What made an answer, by its id or fingerprint: data, blocks, commits, runs."""
        return _lineage(gateway, outlook, identity, request)

    @router.get("/", response_class=RedirectResponse, include_in_schema=False)
    def top() -> str:
        return "playground"  # relative: a proxy may serve this below a path of its own

    @router.get("/playground", response_class=Response, include_in_schema=False)
    def playground() -> Response:
        return _file("index.html")

    @router.get("/playground/{name}", response_class=Response, include_in_schema=False)
    def asset(name: str) -> Response:
        return _file(name)

    return router


def _tokenizers(gateway: Gateway, outlook: Outlook) -> dict[str, Path]:
    deployment = gateway.current.now
    served = Path(deployment.known(BASE)["path"])
    own = str(deployment.identity["pipeline"])
    others = {n: path for n, path in outlook.tokenizers.items() if n != own}
    return {own: served, **{n: path for n, path in others.items() if tokenizing.there(path)}}


async def _looked(
    gateway: Gateway, request: Request, model: str, look: Callable[[Inside], dict[str, Any]]
) -> Any:
    """What `look` sees, in line as any other work."""

    async def work() -> dict[str, Any]:
        with gateway.admitted() as deployment:
            about, base = deployment.known(model, request.state.key), deployment.known(BASE)
            request.state.story.model = model
            opened = partial(Inside, model, about, base, gateway.limits.inspect_bytes)
            job = gateway.line.run(lambda _: iter([_seen(opened, look)]), deadline(gateway))
            async with aclosing(job) as found:
                return await anext(found)

    return await attended(request, work)


def _seen(opened: Callable[[], Inside], look: Callable[[Inside], dict[str, Any]]) -> dict[str, Any]:
    from components.inference.threads import passing_crew  # needs torch, as does what it sees

    with passing_crew():
        return look(opened())


def _lineage(gateway: Gateway, outlook: Outlook, identity: str, request: Request) -> dict[str, Any]:
    digest, key = gateway.fingerprints.given(identity), request.state.key
    record = gateway.fingerprints.record(digest) if digest else None
    model = ((record or {}).get("adapter") or (record or {}).get("base") or {}).get("name", "")
    if outlook.lineage is None or record is None or (key and not key.allows(model)):
        raise RequestError(f"no answer of this server has the id '{identity}'", "id", "not_found")
    return {**_known_to(key, outlook.lineage(f"fp_{digest}")), "id": identity}


def _known_to(key: Key | None, told: dict[str, Any]) -> dict[str, Any]:
    """Lineage without the names of models that `key` may not use: a record holds the versions of
    all that were served.
    """
    record = told.get("record", {})
    if key is None or "versions" not in record:
        return told
    versions = {n: v for n, v in record["versions"].items() if n == BASE or key.allows(n)}
    return {**told, "record": {**record, "versions": versions}}


def _file(name: str) -> Response:
    """A file of the page; of nothing else, whatever `name` holds."""
    found = {path.name: path for path in PAGE.iterdir() if path.suffix in KINDS}
    if name not in found:
        raise RequestError(f"the playground has no file '{name}'", code="not_found")
    path = found[name]
    return FileResponse(path, media_type=KINDS[path.suffix], headers=POLICY)
