"""A model's ``config.json`` from the Hugging Face hub or its cache on this machine."""

from __future__ import annotations

from pathlib import Path

from planner.errors import EnvironmentProblemError, UnknownNameError

_TIMEOUT_S = 5.0


def config_text(repo_id: str) -> str:
    """The text of ``config.json`` of ``repo_id``; the cache is used first when the hub is offline or slow.

    Raises UnknownNameError where the hub has no such model, EnvironmentProblemError where it cannot be asked.
    """
    try:
        from huggingface_hub import constants, hf_hub_download
        from huggingface_hub.errors import (
            EntryNotFoundError,
            GatedRepoError,
            LocalEntryNotFoundError,
            RepositoryNotFoundError,
        )
    except ImportError:
        raise EnvironmentProblemError(
            f"{repo_id} is not in the registry and huggingface_hub is not installed",
            hint="pip install huggingface_hub, or give a config.json",
        ) from None
    try:
        path = hf_hub_download(repo_id, "config.json", etag_timeout=_TIMEOUT_S)
    except GatedRepoError:
        raise EnvironmentProblemError(
            f"{repo_id} is gated on the hub", hint="log in with hf auth login, or give its config.json"
        ) from None
    except LocalEntryNotFoundError:
        state = (
            "the hub is switched off (HF_HUB_OFFLINE)" if constants.HF_HUB_OFFLINE else "the hub does not answer"
        )
        raise EnvironmentProblemError(
            f"{repo_id} is not in the registry and {state}",
            hint="see plan models, or give a directory with config.json",
        ) from None
    except RepositoryNotFoundError:
        raise UnknownNameError(
            f"the hub has no model {repo_id!r}", hint="see plan models for known names"
        ) from None
    except EntryNotFoundError:
        raise UnknownNameError(f"{repo_id} has no config.json on the hub", hint="give a config.json") from None
    except (OSError, ValueError) as error:
        raise EnvironmentProblemError(
            f"cannot fetch the config of {repo_id}: {str(error).splitlines()[0][:120]}", hint="give a config.json"
        ) from None
    return Path(path).read_text(encoding="utf-8")
