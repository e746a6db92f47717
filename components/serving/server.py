"""The HTTP API as one application: what OpenAI's clients expect, and what kindling adds."""

from typing import Any

from fastapi import FastAPI, Security
from fastapi.security import HTTPBearer

from components.serving import errors, information, inspection, work
from components.serving.edge import Edge
from components.serving.gateway import Gateway
from components.serving.inspection import Outlook

ABOUT = """A base and its adapters, for OpenAI's clients. Every answer carries a fingerprint;
`kindling trace ID` says what made it."""


def create_app(gateway: Gateway, outlook: Outlook | None = None) -> FastAPI:
    """The application. outlook: what the workspace shows beside its models."""
    # FastAPI's pages for its document load their code from elsewhere: a server needs no network
    app = FastAPI(title="kindling", description=ABOUT, docs_url=None, redoc_url=None)
    app.state.gateway = gateway
    app.add_middleware(Edge, gateway=gateway)
    errors.install(app)
    # for the document alone: `Edge` asks for the key before it reads a body
    bearer = Security(HTTPBearer(auto_error=False, description="A key of 'kindling keys add'."))
    app.include_router(information.health_route(gateway))
    app.include_router(information.routes(gateway), dependencies=[bearer])
    app.include_router(work.routes(gateway), dependencies=[bearer])
    app.include_router(inspection.routes(gateway, outlook or Outlook()), dependencies=[bearer])
    app.openapi_schema = _document(app)
    return app


def _document(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document. What FastAPI would answer with 422 is a 400 here."""
    document = app.openapi()
    for path in document["paths"].values():
        for operation in path.values():
            operation["responses"].pop("422", None)
    for unused in ("HTTPValidationError", "ValidationError"):
        document["components"]["schemas"].pop(unused, None)
    return document
