"""Small files that several tests of the instruments read."""

import wave

import pytest

from flowact.geometry import Geometry


@pytest.fixture
def write_wav(tmp_path):
    """``write_wav(samples)``: a file of float samples [n] at the geometry's rate."""

    def write(samples):
        path = tmp_path / "sound.wav"
        with wave.open(str(path), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(Geometry().sample_rate)
            file.writeframes((samples * 32767).astype("<i2").tobytes())
        return path

    return write
