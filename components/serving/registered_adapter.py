"""What MLflow runs when a registered adapter is loaded with `mlflow.pyfunc.load_model`.

The version holds the adapter alone; its base is fetched from the registry by version and must have
the content that the adapter was trained on.
"""

from pathlib import Path

import mlflow
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel

from components.lineage import folder_hash


class RegisteredAdapter(PythonModel):
    """Classifies texts with an adapter and the prompt version that it was trained with."""

    def load_context(self, context) -> None:
        """Fetch the base and put the adapter on it.

        Raises:
            ValueError: the registry's base is not the one that the adapter was trained on.
        """
        from components.adapters import load_adapter

        settings = context.model_config
        fetched = Path(mlflow.artifacts.download_artifacts(settings["base"]))
        base = fetched / "artifacts" / "model"
        found = folder_hash(base)
        if found != settings["base_content"]:
            raise ValueError(
                f"{settings['base']} has content {found[:12]}, the adapter needs "
                f"{settings['base_content'][:12]}"
            )
        self.folder = Path(context.artifacts["model"])
        self.base = base
        self.model = load_adapter(base, self.folder)

    def predict(self, context, model_input: list[str], params=None) -> list[dict[str, float]]:
        """The probability of each label for each text."""
        from components.evaluation.classification import classify

        return classify(self.model, self.base, self.folder, model_input)


set_model(RegisteredAdapter())
