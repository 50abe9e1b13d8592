"""A model's ``config.json`` from the Hugging Face hub or its cache on this machine."""

from __future__ import annotations

from pathlib import Path

from planner.errors import EnvironmentProblemError, UnknownNameError

_FILE = "config.json"
_TIMEOUT_S = 5.0


def config_text(repo_id: str) -> str:
    """The text of ``config.json`` of ``repo_id``, from the local cache if it is there, else from the hub.

    Asks the hub once, without retries. Raises UnknownNameError where the hub has no such model,
    EnvironmentProblemError where it cannot be asked.
    """
    return Path(_local_path(repo_id)).read_text(encoding="utf-8")


def _local_path(repo_id: str) -> str:
    try:
        import huggingface_hub as hub
        from huggingface_hub import errors
    except ImportError:
        raise EnvironmentProblemError(
            f"{repo_id} is not in the registry and huggingface_hub is not installed",
            hint="pip install huggingface_hub, or give a config.json",
        ) from None
    cached = hub.try_to_load_from_cache(repo_id, _FILE)
    if isinstance(cached, str):
        return cached
    if hub.constants.HF_HUB_OFFLINE:
        raise _unreachable(repo_id, "the hub is switched off (HF_HUB_OFFLINE)")
    try:
        hub.get_hf_file_metadata(hub.hf_hub_url(repo_id, _FILE), timeout=_TIMEOUT_S)
        path: str = hub.hf_hub_download(repo_id, _FILE, etag_timeout=_TIMEOUT_S)
    except errors.GatedRepoError:
        raise EnvironmentProblemError(
            f"{repo_id} is gated on the hub", hint="log in with hf auth login, or give its config.json"
        ) from None
    except errors.RepositoryNotFoundError:
        raise UnknownNameError(
            f"the hub has no model {repo_id!r}", hint="see plan models for known names"
        ) from None
    except errors.EntryNotFoundError:
        raise UnknownNameError(f"{repo_id} has no config.json on the hub", hint="give a config.json") from None
    except Exception as error:  # the transport errors of whichever HTTP library the hub client brings
        raise _unreachable(repo_id, f"the hub does not answer ({type(error).__name__})") from None
    return path


def _unreachable(repo_id: str, why: str) -> EnvironmentProblemError:
    return EnvironmentProblemError(
        f"{repo_id} is not in the registry and {why}", hint="see plan models, or give a directory with config.json"
    )
