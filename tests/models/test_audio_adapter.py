"""The audio adapter by itself and in the model."""

import pytest
import torch

from flowact.models.audio_adapter import AudioCrossAttention, AudioProjector
from flowact.models.transformer import FlowActTransformer3DModel
from flowact.rng import keyed_normal
