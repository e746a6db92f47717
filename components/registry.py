"""MLflow's registry as kindling uses it: versions of models and prompts that own their bytes.

A model is called `PIPELINE.NAME`, the base `PIPELINE.base`; a prompt has its catalogue name. A
version is found by its content hash, so registering the same bytes again changes nothing. An
adapter's version refers to its base by version and hash and never holds a copy of it.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from components.asking import ABSENT, NO_ALIAS, Asked, answer, asking
from components.lineage import content_of, folder_hash, text_hash

if TYPE_CHECKING:
    from mlflow import ActiveRun
    from mlflow.entities.model_registry import ModelVersion

CHAMPION = "champion"
CANDIDATE = "candidate"
CONTENT = "kindling.content"
WORKSPACE = "kindling.workspace"
DECISION = "kindling.decision"
CODE = Path(__file__).parent
LIBRARIES = ("torch", "transformers", "peft", "tokenizers", "pydantic", "ruamel.yaml", "jinja2")


class RegistryError(ValueError):
    """The registry lacks something or has it already; the message names the remedy."""


class Registry:
    """The registry at MLflow store `uri`, seen from the workspace called `workspace`.

    copies: the folder for versions whose store is elsewhere; None makes a new copy each time.
    """

    def __init__(self, uri: str, workspace: str, copies: Path | None = None) -> None:
        from mlflow import MlflowClient

        self.uri = uri
        self.workspace = workspace
        self.copies = copies
        self.client = Asked(MlflowClient(tracking_uri=uri, registry_uri=uri), uri)

    # -- versions ------------------------------------------------------------------------------

    def versions(self, name: str) -> list["ModelVersion"]:
        """All versions of model `name`, oldest first."""
        found = self.client.search_model_versions(f"name = '{name}'")
        return sorted(found, key=lambda version: int(version.version))

    def with_content(self, name: str, content: str) -> int | None:
        """The version of `name` that holds `content`."""
        for version in reversed(self.versions(name)):
            if version.tags.get(CONTENT) == content:
                return int(version.version)
        return None

    def alias(self, name: str, alias: str) -> "ModelVersion | None":
        ask = self.client.get_model_version_by_alias
        return answer(lambda: ask(name, alias), ABSENT, NO_ALIAS)

    def tags(self, name: str) -> Mapping[str, str]:
        """The tags of model `name`; none where it is not registered."""
        return answer(lambda: self.client.get_registered_model(name).tags, ABSENT) or {}

    def aliases(self, name: str) -> list[str]:
        """All aliases of model `name`; none where it is not registered."""
        ask = self.client.get_registered_model
        return sorted(answer(lambda: ask(name).aliases, ABSENT) or {})

    def aliases_of(self, version: "ModelVersion") -> list[str]:
        """The aliases that point to `version`."""
        aliases = self.client.get_registered_model(version.name).aliases
        return [alias for alias, number in aliases.items() if int(number) == int(version.version)]

    def folder(self, name: str, version: int) -> Path:
        """The files of a version, on this machine; downloaded where the store is elsewhere.

        Raises:
            RegistryError: the bytes are not those that were registered.
        """
        files = self._files(name, version)
        folder = files / "model"
        stated = self.client.get_model_version(name, str(version)).tags.get(CONTENT)
        found = folder_hash(folder)
        if stated != found:
            if self.copies and files.is_relative_to(self.copies):
                shutil.rmtree(files.parent)  # the next one may be sound
            raise RegistryError(
                f"{name} version {version} was altered: its content is {found[:12]}, registered "
                f"was {str(stated)[:12]}; take another with 'kindling registry promote', or delete "
                "this one in MLflow's UI (Models) and run 'kindling register'"
            )
        return folder

    def records(self, name: str, version: int) -> Path:
        """The evaluation folder that was registered with a version."""
        return self._files(name, version) / "evaluation"

    def _files(self, name: str, version: int) -> Path:
        from mlflow.artifacts import download_artifacts

        # not `models:/NAME/VERSION`: MLflow looks that up in the process's own registry
        place = self.client.get_model_version_download_uri(name, str(version))
        there = {"tracking_uri": self.uri, "registry_uri": self.uri}
        if self.copies is None or place.startswith(("/", "file:")):
            with asking(self.uri):
                return Path(download_artifacts(place, **there)) / "artifacts"
        content = self.client.get_model_version(name, str(version)).tags.get(CONTENT, "")
        kept = self.copies / f"{name}-{version}-{content[:16]}"
        if not kept.is_dir():
            self.copies.mkdir(parents=True, exist_ok=True)
            with TemporaryDirectory(dir=self.copies) as temporary, asking(self.uri):
                copy = download_artifacts(place, dst_path=str(Path(temporary, "copy")), **there)
                try:
                    os.replace(copy, kept)
                except OSError:
                    if not kept.is_dir():  # another process was first
                        raise
        return kept / "artifacts"

    def register_base(
        self, pipeline: str, folder: Path, run: Callable[[], str]
    ) -> tuple[int, bool]:
        """Register a base folder; return its version and whether it is new.

        run: gives the id of the MLflow run to do it under; asked where something is new.
        """
        code = CODE / "serving" / "registered_base.py"
        return self._register(f"{pipeline}.base", folder, code, {}, {}, {}, run)

    def register_adapter(
        self,
        pipeline: str,
        adapter: str,
        folder: Path,
        evaluation: Path,
        base: int,
        tags: Mapping[str, str],
        run: Callable[[], str],
    ) -> tuple[int, bool]:
        """Register an adapter with its per-example records; it refers to version `base`.

        run: see `register_base`.
        """
        base_name = f"{pipeline}.base"
        stated = self.client.get_model_version(base_name, str(base)).tags[CONTENT]
        settings = {"base": f"models:/{base_name}/{base}", "base_content": stated}
        extra = {"evaluation": evaluation}
        code = CODE / "serving" / "registered_adapter.py"
        all_tags = {**tags, "kindling.base": str(base), "kindling.base_content": stated}
        return self._register(f"{pipeline}.{adapter}", folder, code, extra, settings, all_tags, run)

    def _register(
        self,
        name: str,
        folder: Path,
        code: Path,
        extra: Mapping[str, Path],
        settings: Mapping[str, str],
        tags: Mapping[str, str],
        run: Callable[[], str],
    ) -> tuple[int, bool]:
        content = content_of(folder)
        versions = self.versions(name)
        self._own(f"'{name}'", versions, "pipeline")
        known = self.with_content(name, content)
        if known is not None:
            newest = versions[-1]
            if known == int(newest.version) and CANDIDATE not in self.aliases_of(newest):
                # it was killed before it came to this
                self.client.set_registered_model_alias(name, CANDIDATE, newest.version)
            return known, False
        import mlflow

        # MLflow keeps a folder's last name: make it speak
        with TemporaryDirectory() as staged, asking(self.uri), self._fluent(run()):
            parts = {"model": folder, **extra}
            for part, source in parts.items():
                shutil.copytree(source, Path(staged, part))
                _require_whole(source, Path(staged, part))
            info = mlflow.pyfunc.log_model(
                name=name.replace(".", "-"),
                python_model=str(code),
                artifacts={part: str(Path(staged, part)) for part in parts},
                model_config=dict(settings),
                pip_requirements=[f"{lib}=={_version(lib)}" for lib in LIBRARIES],
                code_paths=[str(CODE)],
            )
            created = mlflow.register_model(
                info.model_uri, name, tags={CONTENT: content, WORKSPACE: self.workspace, **tags}
            )
        self.client.set_registered_model_alias(name, CANDIDATE, created.version)
        return int(created.version), True

    def _fluent(self, run: str) -> "ActiveRun":
        """A context in which MLflow's fluent functions write to this store, under run `run`.

        `log_model` takes neither a client nor a run, it writes where the process does, and nothing
        of the client does its work. The process goes on writing here: MLflow keeps the address in
        the environment as well, whose older value is not its own to put back.
        """
        import mlflow

        mlflow.set_tracking_uri(self.uri)
        mlflow.set_registry_uri(self.uri)
        return mlflow.start_run(run_id=run)

    def require_own(self, models: Iterable[str], prompts: Iterable[str]) -> None:
        """Refuse names that this workspace may not register.

        Raises:
            RegistryError: another workspace has versions of one.
        """
        for name in models:
            self._own(f"'{name}'", self.versions(name), "pipeline")
        for name in prompts:
            self._own(f"prompt '{name}'", self._prompts(name), "prompt")

    def _own(self, spoken: str, versions: Sequence[Any], block: str) -> None:
        """Refuse a name that another workspace has registered versions of."""
        for version in versions[:1]:
            owner = version.tags.get(WORKSPACE)
            if owner != self.workspace:
                raise RegistryError(
                    f"{spoken} is registered by workspace '{owner}', this one is "
                    f"'{self.workspace}'; rename the {block} in pipelines.yaml, or go there (-C)"
                )

    # -- prompts -------------------------------------------------------------------------------

    def register_prompt(self, name: str, prompt: Mapping[str, Any]) -> tuple[int, bool]:
        """Register a prompt when its text is new; return its version and whether it is new.

        prompt: its `template` and `answer`, as in the catalogue or in an adapter's folder.

        Raises:
            RegistryError: another workspace has a prompt of this name.
        """
        answer = json.dumps(prompt["answer"], sort_keys=True)
        content = text_hash(prompt["template"], answer)
        known = self._prompts(name)
        self._own(f"prompt '{name}'", known, "prompt")
        for version in known:
            if version.tags.get(CONTENT) == content:
                number = int(version.version)
                if version is known[-1]:
                    self._require_candidate(name, number)
                return number, False
        tags = {CONTENT: content, WORKSPACE: self.workspace, "kindling.answer": answer}
        made = self.client.register_prompt(name=name, template=prompt["template"], tags=tags)
        self.client.set_prompt_alias(name, CANDIDATE, int(made.version))
        return int(made.version), True

    def _require_candidate(self, name: str, newest: int) -> None:
        """Give a prompt's newest version its alias: a registration may have been killed before."""
        if CANDIDATE not in self.client.get_prompt_version(name, newest).aliases:
            self.client.set_prompt_alias(name, CANDIDATE, newest)

    def prompt_versions(self, name: str) -> list[Any]:
        """All versions of prompt `name`, oldest first; none where it is not registered."""
        # a search in a database leaves the aliases out: each is read again, some 10 ms each
        return [self.client.get_prompt_version(name, v.version) for v in self._prompts(name)]

    def _prompts(self, name: str) -> list[Any]:
        """`prompt_versions`, some without their aliases."""
        found = answer(lambda: self.client.search_prompt_versions(name), ABSENT) or []
        return sorted(found, key=lambda version: int(version.version))


def _require_whole(folder: Path, copy: Path) -> None:
    """Refuse bytes that no stage made: they would be registered under the content of others.

    Raises:
        RegistryError: the `copy` of `folder` does not hold what that folder's lineage says.
    """
    stated, found = content_of(folder), folder_hash(copy)
    if stated != found:
        raise RegistryError(
            f"{folder} was altered: its content is {found[:12]}, its lineage says {stated[:12]}; "
            "'dvc checkout --force' restores it"
        )


def _version(library: str) -> str:
    return metadata.version(library).split("+")[0]
