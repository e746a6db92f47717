"""What MLflow runs when a registered base is loaded with `mlflow.pyfunc.load_model`."""

from mlflow.models import set_model
from mlflow.pyfunc import PythonModel

NEW_TOKENS = 32


class RegisteredBase(PythonModel):
    """Continues texts greedily."""

    def load_context(self, context) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        folder = context.artifacts["model"]
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = AutoModelForCausalLM.from_pretrained(folder)

    def predict(self, context, model_input: list[str], params=None) -> list[str]:
        """Each text's continuation of at most 32 tokens."""
        return [self._continue(text) for text in model_input]

    def _continue(self, text: str) -> str:
        import torch

        from components.adapters.encoding import as_text

        ids = torch.tensor([[self.tokenizer.bos_token_id, *as_text(self.tokenizer, text)]])
        made = self.model.generate(input_ids=ids, max_new_tokens=NEW_TOKENS, do_sample=False)
        return self.tokenizer.decode(made[0, ids.shape[1] :])


set_model(RegisteredBase())
