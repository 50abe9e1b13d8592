"""Predictions kept in a file while they are made, so that a long run can stop and go on.

The first line of a recording says when and with which software it was made; every further line is one prediction
with the seconds it took. A case whose request has changed since is predicted again.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from planner.errors import RequestError
from planner.quantity import Tier
from validate.published.cases import Case, Prediction
from validate.trace.versions import library_versions

FORMAT = "gpu-planner-predictions"
LEFT_FOR_LATER = "left for a later run (--limit)"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    digest: str
    prediction: Prediction


class Recording:
    """A file of predictions of one tier; opened by path, made where it does not exist."""

    def __init__(self, path: Path, tier: Tier) -> None:
        self._path = path
        self._entries: dict[str, _Entry] = {}
        if path.is_file():
            self.header = self._read(tier)
        else:
            self.header = {
                "format": FORMAT, "tier": tier.value, "recorded": datetime.now(UTC).date().isoformat(),
                "versions": library_versions(),
            }  # fmt: skip
            self._append(self.header)

    def resume(
        self, predict: Callable[[Case], Prediction], *, limit: int | None = None
    ) -> Callable[[Case], Prediction]:
        """``predict`` that takes what the file holds, and makes and keeps at most ``limit`` new answers."""
        made = 0

        def answer(case: Case) -> Prediction:
            nonlocal made
            digest = _digest(case)
            kept = self._entries.get(case.id)
            if kept is not None and kept.digest == digest:
                return kept.prediction
            if limit is not None and made >= limit:
                return Prediction(id=case.id, predicted=None, reason=LEFT_FOR_LATER)
            made += 1
            started = time.perf_counter()
            prediction = predict(case)
            self._entries[case.id] = _Entry(digest=digest, prediction=prediction)
            self._append(
                {
                    "id": case.id, "digest": digest, "predicted": prediction.predicted, "low": prediction.low,
                    "high": prediction.high, "reason": prediction.reason,
                    "seconds": round(time.perf_counter() - started, 1),
                }
            )  # fmt: skip
            return prediction

        return answer

    def _append(self, row: dict[str, Any]) -> None:
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
        except OSError as error:
            raise RequestError(f"cannot write {self._path}: {error.strerror}", hint="name another file") from error

    def _read(self, tier: Tier) -> dict[str, Any]:
        try:
            header, *rows = [json.loads(line) for line in self._path.read_text(encoding="utf-8").splitlines()]
            if header["format"] != FORMAT:
                raise KeyError("format")
            for row in rows:
                prediction = Prediction(
                    id=row["id"],
                    predicted=row["predicted"],
                    low=row["low"],
                    high=row["high"],
                    reason=row["reason"],
                )
                self._entries[row["id"]] = _Entry(digest=row["digest"], prediction=prediction)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RequestError(f"{self._path} holds no predictions", hint="name a new file") from error
        if header["tier"] != tier.value:
            raise RequestError(
                f"{self._path} holds predictions of the {header['tier']} tier", hint="name another file"
            )
        return dict(header)


def _digest(case: Case) -> str:
    asked = json.dumps([case.request, case.measured.quantity, case.measured.phase], sort_keys=True)
    return hashlib.sha256(asked.encode()).hexdigest()[:16]
