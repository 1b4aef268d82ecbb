"""Actors as a model makes them anew: from their first frames, their sound and their captions."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from flowact.data.encoders import Encoders
from flowact.data.manifest import Clip, Interval
from flowact.evaluation.video import open_video, read_frames
from flowact.geometry import Geometry
from flowact.media.writer import VideoWriter
from flowact.pipeline import FlowActPipeline
from flowact.sampling import write_stream
from flowact.settings import StreamSettings
from flowact.streaming.audio import AudioExtractor
from flowact.streaming.engine import Engine
from flowact.streaming.prompts import Prompt, PromptSchedule
from flowact.streaming.sampler import StreamSampler
from flowact.streaming.session import Session
from flowact.streaming.state import Conditions, FinishedChunk, StreamState, Tick


@dataclass(frozen=True)
class Scene:
    """What is streamed.

    Attributes:
        id: of the video that is written.
        clip: whose first frame is the image, and whose motion seed draws the noise.
        sound: the file that is heard.
        intervals: with what is told, and when.
        frames: of the video.
    """

    id: str
    clip: Clip
    sound: Path
    intervals: tuple[Interval, ...]
    frames: int


@dataclass(frozen=True)
class ActorStreamer:
    """Streams actors as a user would, or sends their clips through the autoencoder alone.

    Attributes:
        pipeline: the model.
        truth: the folder with the manifest that lists the clips.
        settings: how it streams.
        threads: of torch, as ``Engine`` takes them.
    """

    pipeline: FlowActPipeline
    truth: Path
    settings: StreamSettings
    threads: int | None = None

    def make(self, clips: Sequence[Clip], folder: Path, round_trip: bool = False) -> None:
        """Stream clips as their truth's files tell them: first frame, sound and captions.

        Args:
            round_trip: instead of the model's, the truth's own latents leave the stream: what is
                seen then is the autoencoder's error alone.
        """
        scenes = [
            Scene(clip.id, clip, self.truth / clip.video, clip.intervals, clip.frames)
            for clip in clips
        ]
        self.stream(scenes, folder, round_trip)

    def stream(self, scenes: Sequence[Scene], folder: Path, round_trip: bool = False) -> None:
        """Write FOLDER/ID.mp4 of each scene, under a progress bar; those that are there are kept.

        Each caption is told from the start of its interval on. ``round_trip`` as in ``make``.
        """
        folder.mkdir(parents=True, exist_ok=True)
        missing = [scene for scene in scenes if not (folder / f"{scene.id}.mp4").is_file()]
        total, to_do = (sum(scene.frames for scene in some) for some in (scenes, missing))
        with tqdm(
            total=total, initial=total - to_do, unit="frame", desc=folder.name, disable=None
        ) as bar:
            for scene in missing:
                aside = folder / f".{scene.id}.mp4"
                for frames in self._write(scene, aside, round_trip):
                    bar.update(frames)
                aside.replace(folder / f"{scene.id}.mp4")

    def _write(self, scene: Scene, output: Path, round_trip: bool) -> Iterator[int]:
        model, geometry = self.pipeline.config, self.pipeline.config.geometry
        session = self._session(scene)
        if round_trip:
            frames = np.concatenate(list(read_frames(open_video(scene.sound))))
            session.sampler = TrueSampler(session.sampler, true_latents(self.pipeline, frames))
        # AAC's last packet is longer than the clip: the file that is written ends with the picture.
        samples = scene.frames * geometry.frame_samples
        sound = first_samples(self.pipeline.blocks(scene.sound), samples)
        writer = VideoWriter(
            output, model.height, model.width, geometry.fps, scene.sound, metadata={}
        )
        with closing(write_stream(Engine(session, threads=self.threads), sound, writer)) as written:
            yield from written

    def _session(self, scene: Scene) -> Session:
        clip = scene.clip
        assert clip.seeds is not None, "actors have seeds"
        first = next(read_frames(open_video(self.truth / clip.video), block=1))[0]
        prompts = schedule(scene.intervals, self.pipeline.config.geometry)
        return self.pipeline.session(
            Image.fromarray(first), prompts, seeds=(clip.seeds["motion"],), stream=self.settings
        )


class TrueSampler(StreamSampler):
    """A sampler that makes no error: the chunks that leave are the truth's.

    Args:
        sampler: whose place it takes.
        latents: of the whole clip, [1, C, 1 + stream latents, H, W], the image's first.
    """

    def __init__(self, sampler: StreamSampler, latents: Tensor) -> None:
        super().__init__(sampler.model, sampler.geometry, sampler.settings)
        self._latents = latents

    def tick(self, state: StreamState, conditions: Conditions) -> Tick:
        size, depth = self.geometry.chunk_latents, self.geometry.depth
        chunk, finished = state.tick - (depth - 1), None
        first = 1 + max(0, chunk) * size
        estimates = self._latents[:, :, first : 1 + (state.tick + 1) * size]
        if chunk >= 0:
            finished = FinishedChunk(chunk, estimates[:, :, :size])
        return Tick(replace(state, tick=state.tick + 1), finished, estimates, 0, refine_calls=0)


def true_latents(pipeline: FlowActPipeline, frames: NDArray[np.uint8]) -> Tensor:
    """What the best of models would stream: the image, then all ``frames``, encoded as one clip.

    As the stream has it, frame 0 is both the image and the first that is shown; the last chunk is
    filled up with the last frame.

    Args:
        frames: uint8 [T, H, W, 3].

    Returns:
        [1, C, 1 + stream latents, h, w], as caches hold them.
    """
    geometry = pipeline.config.geometry
    rest = geometry.chunks(len(frames)) * geometry.chunk_frames - len(frames)
    clip = np.concatenate([frames[:1], frames, np.repeat(frames[-1:], rest, axis=0)])
    extractor = AudioExtractor(pipeline.audio_encoder, geometry)
    encoders = Encoders(pipeline.config, pipeline.autoencoder, pipeline.text_encoder, extractor)
    return encoders.latents(clip)[None].to(pipeline.transformer.device, torch.float32)


def schedule(intervals: Sequence[Interval], geometry: Geometry) -> PromptSchedule:
    """The captions of a clip as prompts, each in force from its start on."""
    return PromptSchedule(tuple(Prompt(i.start, i.caption) for i in intervals), geometry)


def first_samples(blocks: Iterator[Tensor], samples: int) -> Iterator[Tensor]:
    """``samples`` samples of ``blocks``, no more."""
    for block in blocks:
        yield block[:samples]
        samples -= len(block)
        if samples <= 0:
            return
