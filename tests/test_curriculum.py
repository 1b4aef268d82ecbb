"""The curriculum as the README has it, a few steps of each stage from the last one's weights."""

import os
import re
import subprocess
import sys
from pathlib import Path

import av

ROOT = Path(__file__).parents[1]
SECTION = re.search(r"## Train\n.*?```bash\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)

FEW = {
    "make_actors": "clips=2 seconds=4 workers=1 synthesiser=formant",
    "train": "steps=2 global_batch=2 micro_batch=2 workers=0 log.preview_every=null",
    "preprocess": "sheets=0",
    "make_generated_latents": "steps=1",
    "sample": f"image={ROOT}/flowact/assets/person.png audio={ROOT}/flowact/assets/speech.flac",
}
# Of each kind of sample, once.
OF_STAGE = {
    "experiment=vae": "vae.images=2 vae.stills=2 vae.clip_frames=5",
    "experiment=dmd": "dmd.ticks=2 dmd.alone=1 dmd.every=1",
}


def test_every_stage_goes_on_from_the_last(tmp_path):
    assert SECTION
    for line in SECTION[1].strip().splitlines():
        script, *words = line.removeprefix("python scripts/").split()
        few = FEW.get(script.removesuffix(".py"), "").split()
        few += [word for stage in OF_STAGE.keys() & words for word in OF_STAGE[stage].split()]
        changed = {word.partition("=")[0] for word in few}
        words = [word for word in words if word.partition("=")[0] not in changed]
        ended = subprocess.run(
            [sys.executable, ROOT / "scripts" / script, *words, *few],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
        )
        assert ended.returncode == 0, f"{line}: {ended.stderr[-2000:]}"
        assert "untrained" not in ended.stderr or script == "train.py", ended.stderr
    with av.open(tmp_path / "outputs" / "video.mp4") as container:
        assert sum(1 for _ in container.decode(video=0)) == 200
