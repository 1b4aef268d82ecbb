"""What preprocessing did and what it took, in lines for the terminal."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

from flowact.data.records import QUARANTINE, REPORT

# The stages of the thread that encodes; the others run beside them, ahead of it.
ENCODING = ("wait", "latents", "references", "features", "text", "write")
MEANING = {
    "wait": "for the next clip to be decoded",
    "latents": "autoencoder",
    "references": "autoencoder, single frames",
    "features": "audio encoder",
    "text": "text encoder",
    "write": "caches to disk",
    "inspect": "first decoding, shots, sound",
    "decode": "second decoding, scaling, sound",
    "captions": "vision-language model",
    "sheet": "contact sheets",
}
MAX_REASONS = 10


def read_report(output: str | Path) -> dict[str, Any]:
    """The report of a folder, with ``reasons``: what was set aside, by id."""
    output = Path(output)
    report: dict[str, Any] = json.loads((output / REPORT).read_text())
    with (output / QUARANTINE).open(encoding="utf-8") as lines:
        entries = [json.loads(line) for line in lines]
    return report | {"reasons": {entry["id"]: entry["reason"] for entry in entries}}


def table(report: dict[str, Any]) -> str:
    """Counts, the share of each stage in the time of the ranks, and what was set aside."""
    ranks = report["ranks"].values()
    seconds = sum(rank["seconds"] for rank in ranks)
    stages: Counter[str] = Counter()
    for rank in ranks:
        stages.update(rank["stages"])
    lines = [
        f"{report['clips']} clips, {report['frames']} frames, of {report['sources']} videos with "
        f"{report['source_seconds']:.1f} s; {report['captioned']} clips have captions",
        f"{'stage':12}{'seconds':>9}{'share':>8}",
    ]
    for name, meaning in MEANING.items():
        if name in stages:
            where = "" if name in ENCODING else ", in the thread ahead"
            share = stages[name] / max(seconds, 1e-9)
            lines.append(f"{name:12}{stages[name]:9.2f}{share:8.1%}  {meaning}{where}")
    lines.append(f"set aside: {report['set_aside']}")
    reasons = list(report["reasons"].items())
    lines += [f"  {id}: {reason}" for id, reason in reasons[:MAX_REASONS]]
    if len(reasons) > MAX_REASONS:
        lines.append(f"  and {len(reasons) - MAX_REASONS} more, in {QUARANTINE}")
    return "\n".join(lines)
