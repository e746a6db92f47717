"""The endpoints that tell what there is: health, models, templates, figures."""

from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from components.serving import replies
from components.serving.deployment import Deployment
from components.serving.engine import RequestError, recorded
from components.serving.errors import documented
from components.serving.gateway import Gateway
from components.serving.keys import Key

METRICS = {200: {"content": {"text/plain": {"schema": {"type": "string"}}}}}


def health_route(gateway: Gateway) -> APIRouter:
    """`/health`, which needs no key."""
    router = APIRouter()

    @router.get(
        "/health", response_model=replies.Health, responses={503: {"model": replies.Health}}
    )
    async def health() -> Any:  # of no thread, all of which may be at work
        """Whether the server takes requests; 503 while it is going away."""
        draining = gateway.line.draining
        told = {
            "status": "draining" if draining else "ok",
            "models": list(gateway.current.now.models()) if not gateway.keys.required() else [],
        }
        return JSONResponse(told, 503 if draining else 200)

    return router


def routes(gateway: Gateway) -> APIRouter:
    """`/v1/models`, `/v1/templates`, `/metrics`."""
    router = APIRouter()

    @router.get("/v1/models", response_model=replies.ModelList, responses=documented(401))
    def models(request: Request) -> Any:
        """The base and every adapter that this key may ask, also those that are unavailable."""
        return {"data": entries(gateway.current.now, request.state.key)}

    @router.get(
        "/v1/models/{model}", response_model=replies.ModelEntry, responses=documented(401, 404)
    )
    def model(model: str, request: Request) -> Any:
        """One of them."""
        deployment, key = gateway.current.now, request.state.key
        found = entries(deployment, key, model)
        if not found:
            deployment.known(model, key)  # raises what every endpoint says of such a model
        return found[0]

    @router.get(
        "/v1/templates", response_model=replies.TemplateList, responses=documented(401, 503)
    )
    def templates() -> Any:
        """Every version of every registered prompt, which any key may let its models answer."""
        names = gateway.templates.names()
        every = [t for name in names for t in gateway.templates.versions(name)]
        return {"data": [template.described() for template in every]}

    @router.get("/metrics", response_class=Response, responses={**METRICS, **documented(401)})
    def metrics(request: Request) -> Response:
        """Figures in Prometheus' form. They name all models: no key of some models reads them."""
        key = request.state.key
        if key and key.models is not None:
            raise RequestError(f"key '{key.name}' may not read figures", code="forbidden")
        return Response(gateway.figures.text(), media_type="text/plain; version=0.0.4")

    return router


def entries(
    deployment: Deployment, key: Key | None, only: str | None = None
) -> list[dict[str, Any]]:
    """The models that a key may ask, as the API tells them; maybe one of them alone."""
    backend = deployment.engine.about()["engine"]
    told = [
        _entry(deployment, name, about) | {"available": True, "backend": backend}
        for name, about in deployment.models(key).items()
        if only in (None, name)
    ]
    return told + [
        _entry(deployment, name, {}) | {"available": False, "reason": reason, "backend": backend}
        for name, reason in deployment.unavailable(key).items()
        if only in (None, name)
    ]


def _entry(deployment: Deployment, name: str, about: Mapping[str, Any]) -> dict[str, Any]:
    """What engine and deployment say of a model. about: by the engine; empty where it is not."""
    labels = about.get("described", {}).get("labels")
    return {
        "id": name,
        "created": about.get("created", 0),
        "version": deployment.versions.get(name),
        "labels": list(labels or ()),
        "score": deployment.scores.get(name),
        **{key: value for key, value in recorded(about).items() if key != "path"},
    }
