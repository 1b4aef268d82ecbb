"""What previews of the stages that train on windows are asked for."""

from dataclasses import dataclass


@dataclass(frozen=True)
class PreviewConfig:
    """Short streams by the averaged weights: of unseen actors, or of a person of one's own.

    Attributes:
        actors: of the validation split, each shown beside the truth.
        seconds: of each stream, at most.
        image, audio: a person and speech, instead of actors.
        prompt: what that person does.
        micro_steps: model calls per tick.
        guidance: w of uncond + w (cond - uncond); 1 is none.

    Raises:
        ValueError: a setting is out of its range, or an image has no audio, or audio no image.
    """

    actors: int = 2
    seconds: float = 4.0
    image: str | None = None
    audio: str | None = None
    prompt: str = ""
    micro_steps: int = 4
    guidance: float = 1.0

    def __post_init__(self) -> None:
        if (self.image is None) != (self.audio is None):
            raise ValueError(
                f"preview.image is {self.image}, preview.audio is {self.audio}; give both or none"
            )
        if not 1 <= self.seconds < float("inf"):
            raise ValueError(f"preview.seconds is {self.seconds}; it must be 1 or more")
        for name in ("actors", "micro_steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"preview.{name} is {getattr(self, name)}; it must be 1 or more")
        if not self.guidance >= 0:
            raise ValueError(f"preview.guidance is {self.guidance}; it must be 0 or more")
