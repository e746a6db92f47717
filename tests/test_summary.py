"""The summary of a run."""

import pytest
from prefect.types.names import raise_on_name_alphanumeric_dashes_only

from flows import summary


@pytest.mark.parametrize("pipeline", ["quickstart", "Reviews_2024", "A-b_C"])
def test_prefect_takes_the_key_of_any_pipelines_summary(pipeline):
    """A capital let the run fail when all its work was done."""
    key = summary.key(pipeline)
    assert raise_on_name_alphanumeric_dashes_only(key, "Artifact key") == key
