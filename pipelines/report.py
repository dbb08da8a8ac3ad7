"""Stage `report`: one self-contained page."""

from sustain.config import Params
from sustain.report import build_report
from sustain.stage import Artefacts, run_stage


def main(params: Params, artefacts: Artefacts) -> None:
    """Build the page from everything before it."""
    build_report(artefacts, params)


if __name__ == "__main__":
    run_stage(main)
