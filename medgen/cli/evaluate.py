"""`medgen evaluate RUN`: every metric that fits the model, each with its recipe."""

from __future__ import annotations

from collections.abc import Sequence

from medgen.cli.common import make_parser
from medgen.cli.work import add_evaluation, add_run, evaluation_options, on_data, open_run, parse_run, progress_bar

__all__ = ["run"]

_EXAMPLES = """\
  medgen evaluate runs/heart
  medgen evaluate runs/heart -n 1000 --importance_samples 100
  medgen evaluate runs/heart --metrics frechet_distance coverage --extractor inception.pt
  medgen evaluate runs/flair --split test --per_subject
  medgen evaluate runs/t1t2 --data pairs.npz --key t2 --source t1 --per_subject      pairs, of a run without
  medgen list --metrics                      what there is
"""


def run(argv: Sequence[str]) -> int:
    """Evaluate; returns the exit code."""
    parser = make_parser(
        "evaluate", "Compare samples and reconstructions of a run with held-out data; writes RUN/evaluation.json.", _EXAMPLES
    )
    add_run(parser)
    add_evaluation(parser)
    parser.add_argument("--per_subject", action="store_true", help="also print a translator's figures of each subject, mean, median and sd")
    parser.add_argument("--recipes", action="store_true", help="also print how each figure was made")
    options, overrides = parse_run(parser, argv)

    from medgen.evaluation import evaluate, load_subjects, render

    done = on_data(open_run(options, overrides), options)
    with progress_bar("evaluating", None, show=not options.quiet) as bar:
        scores = evaluate(done, **evaluation_options(options), progress=bar)
    print(render(scores) if options.recipes else render(scores, recipes=False))
    if options.per_subject:
        table = load_subjects(done.path / "evaluation.json")
        print("Figures by subject are of translators that have a truth." if table is None else f"\n{table}\n")
    print(f"Every figure's recipe is in {done.path / 'evaluation.json'} (or add --recipes).")
    return 0
