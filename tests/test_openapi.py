"""The OpenAPI document is kept: schemathesis makes requests up from it and checks the answers."""

import importlib.util
import sys

import pytest

from tests.conftest import ROOT
from tests.serving import make_gateway


@pytest.fixture
def bench(monkeypatch):
    spec = importlib.util.spec_from_file_location("bench_fuzz", ROOT / "bench" / "fuzz.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setattr(sys, "path", list(sys.path))
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_requests_made_up_from_the_document_are_answered_as_it_says(bench, folders, tmp_path):
    few = {name: folders[name] for name in bench.MODELS}
    told = bench.fuzz(make_gateway(few, tmp_path, bench.LIMITS), examples=10)
    assert told["exit"] == 0, told["said"]
    assert told["server_errors"] == 0 and told["failed_checks"] == []
    assert told["requests"] > 500 and {200, 400, 401, 404} <= told["statuses"].keys()
    assert told["slowest_seconds"] < bench.LONGEST_SECONDS
