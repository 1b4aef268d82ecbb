"""Classifier-free guidance, everywhere as uncond + w (cond - uncond) (design 8.3, paper 2.4).

There is another convention, cond + w (cond - uncond); of two equal results its w is less by one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:  # settings have scales too, and are read before torch is there
    from torch import Tensor

Scale: TypeAlias = "float | Tensor"


@dataclass(frozen=True)
class UncondGuidance:
    """Scales w of uncond + w (cond - uncond): 0 is without the condition, 1 without guidance.

    Attributes:
        text, audio: numbers, or tensors that broadcast against velocities.
    """

    text: Scale
    audio: Scale

    @classmethod
    def from_cond(cls, text: Scale, audio: Scale) -> UncondGuidance:
        """From scales of cond + w (cond - uncond), where 0 is without guidance."""
        return cls(text + 1, audio + 1)

    def together(self, uncond: Tensor, full: Tensor) -> Tensor:
        """The guided velocity of two passes, with neither and both conditions, at ``text``."""
        return uncond + self.text * (full - uncond)

    def apart(self, uncond: Tensor, with_text: Tensor, full: Tensor) -> Tensor:
        """That of three: text is guided from nothing, audio from text.

        With equal scales it is that of two.
        """
        return uncond + self.text * (with_text - uncond) + self.audio * (full - with_text)
