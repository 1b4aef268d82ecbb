"""Turn a HunyuanVideo-1.5 checkpoint, as diffusers saves it, into a folder for weights=DIR.

    python scripts/import_hunyuan15.py source=DIR output=DIR [model=hunyuan15] [whisper=large-v3]

The source is a pipeline's folder, or that of its transformer alone. Encoders and autoencoder are
hard links to the source's files where the file system has them: leave both folders unchanged.
"""

from flowact.cli import main
from flowact.runs import ImportConfig


def work(config: ImportConfig) -> None:
    from flowact.import_hunyuan15 import by_layer, import_hunyuan15

    report = import_hunyuan15(config)
    print(f"{config.output}: {report.weights} weights, {report.bytes / 1e9:.2f} GB")
    told = {
        "new, as in a fresh model": report.new,
        "dropped, with no place in this layer pattern": report.dropped,
        "absent from the source, to be put beside the transformer": report.absent,
    }
    for what, names in told.items():
        print(f"{len(names)} {what}" + ":" * bool(names))
        for name in by_layer(names):
            print(f"  {name}")


if __name__ == "__main__":
    main("import_hunyuan15", ImportConfig, work, __doc__)
