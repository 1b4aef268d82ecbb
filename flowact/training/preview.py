"""Previews of the stages that train on windows: short streams with sound, and their scores."""

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
import transformers
from PIL import Image
from torch import nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

from flowact.data.actors.dataset import Recipe, write_dataset
from flowact.data.actors.speech import best_synthesiser
from flowact.data.manifest import read_manifest
from flowact.data.splits import seeds_of
from flowact.evaluation.actor_streams import ActorStreamer, first_samples
from flowact.evaluation.settings import EvaluateConfig, Suite
from flowact.evaluation.side_by_side import sheet, write_side_by_side
from flowact.evaluation.suites import evaluate
from flowact.media.writer import VideoWriter
from flowact.models.components import own_memory
from flowact.pipeline import FlowActPipeline
from flowact.ranks import rank_and_world
from flowact.runtime import resolve_dtype
from flowact.sampling import write_stream
from flowact.settings import Precision, StreamSettings
from flowact.streaming.engine import Engine
from flowact.training.preview_settings import PreviewConfig
from flowact.training.window_model import WindowModel

WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True)


class WindowPreview:
    """Streams by a copy of a network, so that nothing of the training is touched.

    Args:
        network: of the stage, before it is wrapped or sharded; its structure is kept.
        install: puts such a network into a pipeline.
        weights: the folder that the run began with; its autoencoder and encoders are used.
        config: what is streamed.
    """

    def __init__(
        self,
        network: WindowModel,
        install: Callable[[nn.Module, FlowActPipeline], None],
        weights: Path,
        config: PreviewConfig,
    ) -> None:
        empty = {id(p): nn.Parameter(p.to("meta"), p.requires_grad) for p in network.parameters()}
        self._structure = copy.deepcopy(network, empty)
        self._install = install
        self._weights = weights
        self._config = config

    def __call__(self, average: nn.Module, folder: Path) -> dict[str, float]:
        """Put films and a sheet of frames into ``folder``; returns the means of their scores.

        Called on every process, since a sharded network needs them all to be gathered; the first
        alone streams, and the others return nothing.

        Args:
            average: the network with its averaged weights, whole or sharded.
        """
        state = get_model_state_dict(average, options=WHOLE)
        rank, _ = rank_and_world()
        if rank > 0:
            return {}
        with torch.random.fork_rng():
            network = copy.deepcopy(self._structure)
            network.load_state_dict(state, assign=True)
            own_memory(network)
            pipeline = self._pipeline(network, next(average.parameters()).device)
            stream = replace(
                pipeline.config.stream,
                micro_steps=self._config.micro_steps,
                guidance=self._config.guidance,
            )
            if self._config.image is not None:
                return self._own_person(pipeline, stream, folder)
            return self._actors(pipeline, stream, folder)

    def _pipeline(self, network: WindowModel, device: torch.device) -> FlowActPipeline:
        transformers.utils.logging.disable_progress_bar()  # which would break the loop's own
        dtype = resolve_dtype(Precision.auto, device.type)
        pipeline = FlowActPipeline.from_pretrained(self._weights, dtype)
        self._install(network, pipeline)
        nn.Module.to(pipeline.transformer, dtype)
        return pipeline.to(device)

    def _actors(
        self, pipeline: FlowActPipeline, stream: StreamSettings, folder: Path
    ) -> dict[str, float]:
        """Left the truth, right the stream; in the sheet one above the other."""
        recipe = Recipe(
            clips=self._config.actors,
            seconds=self._config.seconds,
            seed=seeds_of("validation").start,
            height=pipeline.config.height,
            width=pipeline.config.width,
            synthesiser=best_synthesiser(),
        )
        with TemporaryDirectory() as elsewhere:
            truth, made = Path(elsewhere) / "truth", Path(elsewhere) / "made"
            write_dataset(truth, recipe, workers=1)
            clips = read_manifest(truth)
            ActorStreamer(pipeline, truth, stream).make(clips, made)
            pairs = {clip.id: (truth / clip.video, made / f"{clip.id}.mp4") for clip in clips}
            for id, pair in pairs.items():
                write_side_by_side(pair, folder / f"{id}.mp4")
            rows = [path for pair in pairs.values() for path in pair]
            Image.fromarray(sheet(rows)).save(folder / "frames.png")
            return _scores(made, Suite.actors, truth)

    def _own_person(
        self, pipeline: FlowActPipeline, stream: StreamSettings, folder: Path
    ) -> dict[str, float]:
        config, model = self._config, pipeline.config
        assert config.image is not None
        assert config.audio is not None
        film = folder / "preview.mp4"
        session = pipeline.session(config.image, config.prompt, stream=stream)
        samples = round(config.seconds * model.geometry.sample_rate)
        sound = first_samples(pipeline.blocks(config.audio), samples)
        writer = VideoWriter(
            film, model.height, model.width, model.geometry.fps, config.audio, metadata={}
        )
        for _ in write_stream(Engine(session), sound, writer):
            pass
        Image.fromarray(sheet([film])).save(folder / "frames.png")
        return _scores(film, Suite.video)


def _scores(videos: Path, suite: Suite, truth: Path | None = None) -> dict[str, float]:
    asked = EvaluateConfig(
        videos=str(videos), suite=suite, output="", truth=None if truth is None else str(truth)
    )
    return {name: score["mean"] for name, score in evaluate(asked).scores.items()}
