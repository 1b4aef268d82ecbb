"""The diffusers-style face: load, save, and stream a person from an image and audio."""

import dataclasses
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from flowact.acceleration.quantisation import quantise
from flowact.index import WHISPER, read_index, read_note, write_index
from flowact.media.audio import audio_blocks, stream_audio
from flowact.media.image import load_image
from flowact.models import components
from flowact.models.audio_encoder import AudioEncoder, WhisperEncoder
from flowact.models.caches import TextCache
from flowact.models.text_encoder import HunyuanTextEncoder, PromptCache
from flowact.models.transformer import FlowActTransformer3DModel
from flowact.models.vae import VideoAutoencoder, wrap_autoencoder
from flowact.models.vae_thin import ThinAutoencoder, ThinDecoder
from flowact.models.vae_thin_weights import SAVED_AS, load_thin_decoder, save_thin_decoder
from flowact.settings import QUANTIZED_LAYERS, ModelConfig, Quantize, StreamSettings
from flowact.streaming.audio import AudioExtractor
from flowact.streaming.engine import Engine
from flowact.streaming.prompts import PromptSchedule, PromptSource
from flowact.streaming.sampler import StreamSampler
from flowact.streaming.session import Session

if TYPE_CHECKING:
    from PIL.Image import Image

Sound = str | Path | NDArray[np.floating[Any]] | Tensor | Iterable[NDArray[np.float32]]


@dataclass
class FlowActOutput:
    """``frames``: uint8 [T, H, W, 3], RGB, 25 a second."""

    frames: NDArray[np.uint8]


class FlowActPipeline:
    """A person from one image, driven by audio and text, for as long as the audio lasts.

    Example:
        >>> pipeline = FlowActPipeline.from_pretrained("weights")
        >>> for frame in pipeline.stream("face.png", "speech.wav", "She waves."):
        ...     show(frame)  # uint8 [H, W, 3]

    Args:
        config: what the parts were built from; its size, geometry and stream settings are used.
        transformer, autoencoder, text_encoder, audio_encoder: the parts.
        trained: whether their weights mean anything.
        note: what users are to expect of the weights, where there is something to say.
    """

    def __init__(
        self,
        config: ModelConfig,
        transformer: FlowActTransformer3DModel,
        autoencoder: VideoAutoencoder,
        text_encoder: components.TextEncoder,
        audio_encoder: AudioEncoder,
        trained: bool = True,
        note: str | None = None,
    ) -> None:
        components.check_fit(config, transformer, autoencoder, text_encoder, audio_encoder)
        self.config = config
        self.transformer = transformer
        self.autoencoder = autoencoder
        self.text_encoder = text_encoder
        self.audio_encoder = audio_encoder
        self.trained = trained
        self.note = note

    # --- making one -------------------------------------------------------------------------------

    @classmethod
    def untrained(
        cls, config: ModelConfig, seed: int = 0, dtype: torch.dtype = torch.float32
    ) -> "FlowActPipeline":
        """A pipeline with random weights: full speed, meaningless pictures.

        Raises:
            ValueError: the preset exists with its weights only.
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            text_encoder = components.build_text_encoder(config.text_encoder)
            audio_encoder = components.build_audio_encoder(config.audio_encoder)
            autoencoder = components.build_autoencoder(config.autoencoder)
            transformer = FlowActTransformer3DModel(**dataclasses.asdict(config.transformer))
        for module in (transformer, autoencoder):
            torch.nn.Module.to(module, dtype)  # diffusers' own warns of no modules
        return cls._assembled(
            config, transformer, autoencoder, text_encoder, audio_encoder, trained=False
        )

    @classmethod
    def from_pretrained(
        cls, folder: str | Path, dtype: torch.dtype = torch.float32
    ) -> "FlowActPipeline":
        """Load what ``save_pretrained`` or ``scripts/import_hunyuan15.py`` wrote.

        Raises:
            ValueError: a file is missing, or weights do not fit; files and keys are named.
        """
        folder = Path(folder)
        config, trained = read_index(folder)
        kind = components.AUTOENCODERS[config.autoencoder.kind]
        transformer = components.load_transformer(folder / "transformer", dtype)
        autoencoder = components.load_diffusers(kind, folder / "vae", dtype)
        text_encoder = components.load_text_encoder(config.text_encoder, folder)
        for module in (transformer, autoencoder, text_encoder):
            components.own_memory(module)
        return cls._assembled(
            config,
            transformer,
            autoencoder,
            text_encoder,
            components.build_audio_encoder(config.audio_encoder),
            trained,
            read_note(folder),
        )

    @classmethod
    def _assembled(
        cls,
        config: ModelConfig,
        transformer: FlowActTransformer3DModel,
        autoencoder: torch.nn.Module,
        text_encoder: components.TextEncoder,
        audio_encoder: AudioEncoder,
        trained: bool,
        note: str | None = None,
    ) -> "FlowActPipeline":
        wrapped = wrap_autoencoder(autoencoder.eval(), window=config.autoencoder.window)
        return cls(
            config,
            transformer.eval(),
            wrapped,
            text_encoder.eval(),
            audio_encoder,
            trained,
            note,
        )

    def save_pretrained(self, folder: str | Path) -> None:
        """Write weights (safetensors) and settings into ``folder``.

        A thin decoder is a file of its own there, thin_decoder.safetensors, for ``use_decoder``.

        Raises:
            ValueError: the text encoder is HunyuanVideo-1.5's, which stays where it came from, or
                the levels are fixed, or weights are quantised.
        """
        if isinstance(self.text_encoder, HunyuanTextEncoder):
            raise ValueError("HunyuanVideo-1.5's encoders are not copied; import its folder again")
        folder = Path(folder)
        self.transformer.save_pretrained(folder / "transformer")
        self.autoencoder.module.save_pretrained(folder / "vae")
        self.text_encoder.save_pretrained(folder / "text_encoder")
        if isinstance(self.autoencoder, ThinAutoencoder):
            save_thin_decoder(self.autoencoder.decoder, folder / SAVED_AS)
        if isinstance(self.audio_encoder, WhisperEncoder):
            components.save_whisper(self.audio_encoder, folder / WHISPER)
        write_index(self.config, folder, self.trained, self.note)

    def fix_levels(self, stream: StreamSettings | None = None) -> "FlowActPipeline":
        """Compute once what the noise levels of ``stream`` do to the layers; other streams are
        refused from then on, and the weights that made it are gone."""
        own = stream or self.config.stream
        sampler = StreamSampler(self.transformer, self.config.geometry, own)
        self.transformer.fix_levels(sampler.called_at, sampler.scales)
        return self

    def use_decoder(self, decoder: str | Path | ThinDecoder) -> "FlowActPipeline":
        """Decode streams with a thin decoder; the full autoencoder encodes as ever.

        Args:
            decoder: itself, or a file of TAEHV's (.safetensors or .pth), or of ``save_pretrained``.

        Raises:
            ValueError: the file cannot be used, or is of another autoencoder's latents.
        """
        current = self.autoencoder
        full = current.full if isinstance(current, ThinAutoencoder) else current
        thin = decoder if isinstance(decoder, ThinDecoder) else load_thin_decoder(decoder)
        weight = next(full.module.parameters())
        try:
            self.autoencoder = ThinAutoencoder(full, thin.to(weight.device, weight.dtype).eval())
        except ValueError as error:
            name = "" if thin is decoder else f"decoder={decoder}: "
            raise ValueError(f"{name}{error}") from error
        return self

    def quantise(
        self,
        kind: Quantize,
        layers: Sequence[str] = QUANTIZED_LAYERS,
        device: str | torch.device | None = None,
    ) -> "FlowActPipeline":
        """Have the transformer's layers compute in 8 bits; arguments as for ``quantise``."""
        quantise(self.transformer, kind, layers, device)
        return self

    def to(self, device: str | torch.device) -> "FlowActPipeline":
        """Move all parts."""
        for module in self.modules:
            module.to(device)
        return self

    def cast(self, dtype: torch.dtype) -> "FlowActPipeline":
        """Give all weights ``dtype``: half the size on disk in bfloat16, which loads as ever.

        Raises:
            ValueError: some are quantised.
        """
        self.transformer.check_exact()
        for module in self.modules:
            torch.nn.Module.to(module, dtype)
        return self

    @property
    def modules(self) -> list[torch.nn.Module]:
        """All parts that have weights."""
        modules = [self.transformer, *self.autoencoder.modules, self.text_encoder]
        if isinstance(self.audio_encoder, WhisperEncoder):
            modules.append(self.audio_encoder)
        return modules

    # --- using it ---------------------------------------------------------------------------------

    def __call__(
        self,
        image: "str | Path | Image",
        audio: Sound,
        prompt: str | PromptSource = "",
        *,
        seed: int = 0,
        sample_rate: int | None = None,
        stream: StreamSettings | None = None,
    ) -> FlowActOutput:
        """The whole video at once; arguments as for ``stream``."""
        frames = self.stream(
            image, audio, prompt, seed=seed, sample_rate=sample_rate, stream=stream
        )
        return FlowActOutput(np.stack(list(frames)))

    def stream(
        self,
        image: "str | Path | Image",
        audio: Sound,
        prompt: str | PromptSource = "",
        *,
        seed: int = 0,
        sample_rate: int | None = None,
        stream: StreamSettings | None = None,
    ) -> Iterator[NDArray[np.uint8]]:
        """Frames, uint8 [H, W, 3], as they are made.

        Args:
            image: the person: a file or a PIL image.
            audio: a file; an array [samples] or [channels, samples] at ``sample_rate``; or blocks
                [samples] at 16 kHz, from a source that may be live.
            prompt: what the person does; or a source of prompts, such as ``PromptSchedule``.
            seed: of the noise.
            sample_rate: of ``audio``, where that is an array.
            stream: instead of the model's own settings.

        Raises:
            ValueError: an input cannot be used.
        """
        session = self.session(image, prompt, seeds=(seed,), stream=stream)
        return _frames(Engine(session).run(self.blocks(audio, sample_rate)))

    def session(
        self,
        image: "str | Path | Image",
        prompt: str | PromptSource = "",
        *,
        seeds: Sequence[int] = (0,),
        stream: StreamSettings | None = None,
    ) -> Session:
        """A stream to be fed by hand; one sample of the batch for each seed."""
        config, device = self.config, self.transformer.device
        pixels = torch.from_numpy(load_image(image, config.height, config.width))
        frames = pixels.permute(2, 0, 1)[None, :, None].to(device).float() / 127.5 - 1
        own = stream or config.stream
        if isinstance(prompt, str):
            prompt = PromptSchedule.constant(prompt, config.geometry)
        return Session(
            StreamSampler(self.transformer, config.geometry, own),
            AudioExtractor(self.audio_encoder, config.geometry),
            self.autoencoder,
            PromptCache(self._text(image, len(seeds)), 2 * config.geometry.depth + 2),
            prompt,
            frames.expand(len(seeds), -1, -1, -1, -1),
            seeds,
        )

    def blocks(self, audio: Sound, sample_rate: int | None = None) -> Iterator[Tensor]:
        """Any audio as blocks of float32 [samples] at the geometry's rate."""
        rate = self.config.geometry.sample_rate
        is_array = isinstance(audio, np.ndarray | Tensor)
        if is_array is (sample_rate is None) or (sample_rate is not None and sample_rate < 1):
            raise ValueError(
                f"sample_rate is {sample_rate}; an array of audio needs one, all else has its own"
            )
        if isinstance(audio, str | Path):
            blocks: Iterable[NDArray[np.float32]] = stream_audio(audio, rate)
        elif isinstance(audio, np.ndarray | Tensor):
            assert sample_rate is not None
            blocks = audio_blocks(np.asarray(audio), sample_rate, rate)
        else:
            blocks = audio
        return (torch.from_numpy(np.ascontiguousarray(block)) for block in blocks)

    def _text(self, image: "str | Path | Image", batch: int) -> Any:
        """A function from a prompt to its cache, for this image."""
        encoder, image_embeds = self.text_encoder, None
        if isinstance(encoder, HunyuanTextEncoder) and encoder.image_encoder is not None:
            from PIL import Image

            pixels = load_image(image, self.config.height, self.config.width)
            image_embeds = encoder.encode_image(Image.fromarray(pixels))

        @torch.inference_mode()
        def encode(text: str) -> TextCache:
            inputs = encoder.encode([text] * batch)
            if image_embeds is not None:
                inputs = replace(inputs, image_embeds=image_embeds.expand(batch, -1, -1))
            return self.transformer.encode_text(inputs.to(self.transformer.dtype))

        return encode


def _frames(chunks: Generator[Tensor, None, None]) -> Iterator[NDArray[np.uint8]]:
    """The frames of an engine's chunks; closing the iterator closes the engine."""
    with closing(chunks):
        for frames in chunks:
            yield from frames[0].numpy()
