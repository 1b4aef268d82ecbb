"""The kernels that compute attention: diffusers' dispatcher, and nothing of it elsewhere.

A kernel that is not ``native`` gets calls without a mask only. Most kernels refuse masks, some
ignore them silently, and few calls have one: those of a batch of prompts of unequal length.
"""

from functools import lru_cache
from typing import Any

import torch
from diffusers.models import attention_dispatch
from diffusers.models.attention_dispatch import AttentionBackendName, dispatch_attention_fn
from torch import Tensor

from flowact.settings import AttentionBackend

# What kernels of 8 bits lose; one that does not fit the heads or the machine is off by far more.
LOW_PRECISION = 0.1


def run_backend(
    backend: AttentionBackend, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None
) -> Tensor:
    """Attention over [B, S, heads, head_dim]; ``mask`` as PyTorch takes it, of ``native`` alone.

    ``DIFFUSERS_ATTN_BACKEND`` and diffusers' active backend have no say.
    """
    name = AttentionBackendName(backend.value)
    if backend is AttentionBackend.flex and query.device.type == "cuda":
        return _fused_flex()(query, key, value, backend=name)
    return dispatch_attention_fn(query, key, value, attn_mask=mask, backend=name)


def check_installed(backend: AttentionBackend) -> None:
    """Whether the package of ``backend`` is there.

    Raises:
        ValueError: it is not; it says what to install.
    """
    name = AttentionBackendName(backend.value)
    try:
        attention_dispatch._check_attention_backend_requirements(name)
    except RuntimeError as error:
        raise _unusable(backend, error) from error


@torch.inference_mode()
def check_backend(
    backend: AttentionBackend, heads: int, head_dim: int, device: torch.device, dtype: torch.dtype
) -> None:
    """Whether ``backend`` computes attention here: a small call against PyTorch's in float32.

    Kernels from the Hub are downloaded by it.

    Raises:
        ValueError: it does not; it says why, and what to install or choose.
    """
    check_installed(backend)
    if backend is AttentionBackend.native:
        return
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randn(3, 1, 128, heads, head_dim, generator=generator).to(device, dtype)
    try:
        attention_dispatch._maybe_download_kernel_for_backend(AttentionBackendName(backend.value))
        found = run_backend(backend, *drawn).float()
    except Exception as error:  # each kernel has its own kinds
        raise _unusable(backend, error) from error
    query, key, value = drawn.float().transpose(2, 3)
    true = torch.nn.functional.scaled_dot_product_attention(query, key, value).transpose(1, 2)
    off = ((found - true).norm() / true.norm()).item()
    if not off < LOW_PRECISION:
        raise _unusable(backend, f"what it computes is off by {off:.0%}")


def _unusable(backend: AttentionBackend, reason: object) -> ValueError:
    said = next(iter(str(reason).strip().splitlines()), "") or repr(reason)
    # PyPI has no sageattention that is new enough, and no flash-attn 3; the Hub has both.
    hub = f"{backend.name}_hub"
    others = f"{hub} or native" if hub in AttentionBackend.__members__ else "native"
    return ValueError(
        f"attention={backend.name} cannot be used here: {said.rstrip('.')}; "
        f"mend that, or give attention={others}"
    )


@lru_cache(maxsize=1)
def _fused_flex() -> Any:
    """Only when compiled does flex fuse; else it holds all scores. On a CPU that is good enough."""
    return torch.compile(dispatch_attention_fn, dynamic=True)
