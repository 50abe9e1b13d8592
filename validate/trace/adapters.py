"""Every parameter-efficient method of the installed peft, by the names of requests or of peft itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from planner.errors import EnvironmentProblemError, RequestError, UnsupportedError
from planner.request import AdapterSpec

_PEFT_NAMES = {
    "qlora": "LORA",
    "dora": "LORA",
    "qdora": "LORA",
    "rslora": "LORA",
    "prompt-tuning": "PROMPT_TUNING",
    "prefix-tuning": "PREFIX_TUNING",
    "p-tuning": "P_TUNING",
    "adaption-prompt": "ADAPTION_PROMPT",
    "layernorm": "LN_TUNING",
}
"""Names of requests that are not peft's own in lower case with dashes."""
_WITHOUT_TARGETS = frozenset({"ADAPTION_PROMPT", "LN_TUNING", "IA3", "TRAINABLE_TOKENS", "XLORA"})
_TOTAL_STEPS = 100
"""AdaLoRA's schedule; its adapters keep their initial rank in memory whatever is masked."""


def peft_type(method: str) -> str | None:
    """peft's name of a method, or None where the installed peft has no such method."""
    from peft import PeftType

    name = _PEFT_NAMES.get(method, method.upper().replace("-", "_"))
    return name if name in PeftType.__members__ else None


def all_methods() -> tuple[str, ...]:
    """Every method of the installed peft, as ``plan trace`` takes it."""
    from peft import PeftType

    names = {peft_name: name for name, peft_name in _PEFT_NAMES.items() if peft_name != "LORA"}
    return tuple(names.get(kind.name, kind.name.lower().replace("_", "-")) for kind in PeftType)


def adapted(model: Any, method: str, adapter: AdapterSpec, task_type: str | None) -> Any:
    """``peft.get_peft_model`` with the method's config."""
    import peft

    config = peft_config(method, adapter, task_type, hidden_size=model.config.hidden_size)
    try:
        return peft.get_peft_model(model, config, autocast_adapter_dtype=adapter.dtype == "fp32")
    except (ValueError, NotImplementedError) as error:
        line = str(error).splitlines()[0]
        raise UnsupportedError(f"peft refuses {method}: {line}", hint="change the method or the model") from error


def peft_config(method: str, adapter: AdapterSpec, task_type: str | None, *, hidden_size: int) -> Any:
    """The peft config of a method; options peft's class does not know are left out."""
    import peft

    name = peft_type(method)
    if name is None:
        raise UnsupportedError(
            f"the installed peft {peft.__version__} has no method {method!r}", hint="plan estimate may know it"
        )
    kind = peft.PEFT_TYPE_TO_CONFIG_MAPPING[peft.PeftType[name]]
    known = {field.name for field in fields(kind)}
    options = {option: value for option, value in _options(method, name, adapter).items() if option in known}
    options |= _needs(name, adapter, hidden_size)
    try:
        return kind(task_type=task_type, **options)
    except ImportError as error:
        raise EnvironmentProblemError(f"{method} needs another library: {error}", hint=None) from error
    except (ValueError, TypeError) as error:
        raise RequestError(
            f"peft refuses this {method} adapter: {str(error).splitlines()[0]}", hint=None
        ) from error


def _options(method: str, name: str, adapter: AdapterSpec) -> Mapping[str, Any]:
    targets = adapter.target_modules if isinstance(adapter.target_modules, str) else list(adapter.target_modules)
    options: dict[str, Any] = {"modules_to_save": list(adapter.modules_to_save) or None}
    if name not in _WITHOUT_TARGETS:
        options["target_modules"] = targets
    if (name.endswith("TUNING") and "TARGET" not in name) or name in ("CPT", "CARTRIDGE"):
        options["num_virtual_tokens"] = adapter.num_virtual_tokens
    if name == "LORA":
        options |= {
            "r": adapter.rank,
            "lora_dropout": adapter.dropout or 0.0,
            "use_dora": method in ("dora", "qdora"),
            "use_rslora": method == "rslora",
        }
    elif name == "ADALORA":
        options |= {
            "init_r": adapter.rank,
            "target_r": max(1, adapter.rank // 2),
            "lora_dropout": adapter.dropout or 0.0,
        }
    elif name not in ("OFT", "BOFT"):
        options["r"] = adapter.rank
    return options


def _needs(name: str, adapter: AdapterSpec, hidden_size: int) -> Mapping[str, Any]:
    """What a method cannot do without."""
    if name == "ADALORA":
        return {"total_step": _TOTAL_STEPS}
    if name == "P_TUNING":
        return {"encoder_hidden_size": hidden_size}
    if name == "ADAPTION_PROMPT":
        return {"adapter_len": adapter.num_virtual_tokens, "adapter_layers": 2}
    if name == "TRAINABLE_TOKENS":
        return {"token_indices": list(range(adapter.num_virtual_tokens))}
    if name == "CPT":
        return {"cpt_token_ids": [0] * adapter.num_virtual_tokens, "cpt_mask": [1] * adapter.num_virtual_tokens}
    return {}
