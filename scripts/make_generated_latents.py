"""Memory for stages 1 and 2 as the stream will make it, from a model that stage 1 trained.

    python scripts/make_generated_latents.py weights=DIR folders=[DIR]

Ground truth is noised and denoised; what comes out is stored beside it, for
autoregressive.generated_memory and audio_motion.generated_memory. A run that was stopped goes on
where it was; one that ends replaces what other weights or settings made before. Several processes
share the work, under torchrun, each on a GPU of its own.
"""

from flowact.cli import RESUMES, main
from flowact.training.window_settings import GenerateLatentsConfig


def work(config: GenerateLatentsConfig) -> None:
    from flowact.training.generated_memory import generate_latents

    generate_latents(config)
    print(f"generated latents are in {', '.join(config.folders)}")


if __name__ == "__main__":
    main("make_generated_latents", GenerateLatentsConfig, work, __doc__, RESUMES)
