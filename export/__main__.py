"""python -m export CHECKPOINT BUNDLE [--field value]"""

import logging
import sys
from pathlib import Path


def main(arguments: list[str]) -> int:
    """Export one checkpoint; 2 for what the caller got wrong or what parity refused."""
    try:
        import tyro

        from export.bundle_writer import export_bundle
        from export.config import ExportConfig
    except ImportError as error:
        print(f"export: {error}; install what export needs: pip install '.[export]'", file=sys.stderr)
        return 2

    def command(
        checkpoint: tyro.conf.Positional[Path], bundle: tyro.conf.Positional[Path], config: ExportConfig
    ) -> int:
        """Write a bundle that the bridge can serve.

        Args:
            checkpoint: Folder that train-sft or train-grpo wrote.
            bundle: Folder to write: new, empty, or an old bundle's.
            config: What goes into the bundle besides the weights.
        """
        logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
        logging.getLogger("export").setLevel(logging.INFO)
        try:
            manifest = export_bundle(checkpoint, bundle, config)
        except (ValueError, OSError) as error:
            print(f"export: {error}", file=sys.stderr)
            return 2
        size = sum((bundle / name).stat().st_size for name in manifest.files)
        checked = manifest.parity.provider if manifest.parity else ""
        print(
            f"{bundle}: {manifest.model_id} for {manifest.provider}, {manifest.language_model.precision}, "
            f"{size / 1e6:.1f} MB, checked on {checked}"
        )
        return 0

    return tyro.cli(command, args=arguments, prog="python -m export", config=(tyro.conf.OmitArgPrefixes,))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
