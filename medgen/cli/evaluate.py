"""`medgen evaluate RUN`: every metric that fits the model, each with its recipe."""

from __future__ import annotations

from collections.abc import Sequence

from medgen.cli.common import make_parser
from medgen.cli.work import add_run, open_run, parse_run, progress_bar

__all__ = ["run"]

_EXAMPLES = """\
  medgen evaluate runs/heart
  medgen evaluate runs/heart -n 1000 --importance_samples 100
  medgen evaluate runs/heart --metrics frechet_distance coverage --extractor inception.pt
  medgen evaluate runs/flair --split test --per_subject
  medgen list --metrics                      what there is
"""


def run(argv: Sequence[str]) -> int:
    """Evaluate; returns the exit code."""
    parser = make_parser(
        "evaluate", "Compare samples and reconstructions of a run with held-out data; writes RUN/evaluation.json.", _EXAMPLES
    )
    add_run(parser)
    parser.add_argument("-n", type=int, help="generated samples (default: as many as real ones)")
    parser.add_argument("--split", default="val", choices=("train", "val", "test"), help="real samples to compare with (default val)")
    parser.add_argument("--limit", type=int, default=1000, help="real samples at most (default 1000)")
    parser.add_argument("--metrics", nargs="+", metavar="NAME", help="default: all that fit (`medgen list --metrics`)")
    parser.add_argument("--extractor", help="shipped name, TorchScript file, or package.module:callable")
    parser.add_argument("--resize", type=int, nargs="+", metavar="SIZE", help="spatial size before features are taken")
    parser.add_argument("--importance_samples", type=int, default=1, help="of the log-density (default 1: the ELBO)")
    parser.add_argument("--bootstrap", type=int, default=200, help="resamples of the intervals (default 200)")
    parser.add_argument("--seed", type=int, default=0, help="of samples and intervals (default 0)")
    parser.add_argument("--draws", type=int, default=1, help="translations of a stochastic translator, whose mean is judged (default 1)")
    parser.add_argument("--segmenter", help="package.module:function that finds lesions in targets and translations")
    parser.add_argument("--per_subject", action="store_true", help="also print a translator's figures of each subject, mean, median and sd")
    parser.add_argument("--recipes", action="store_true", help="also print how each figure was made")
    options, overrides = parse_run(parser, argv)

    from medgen.evaluation import evaluate, load_subjects, render

    done = open_run(options, overrides)
    with progress_bar("evaluating", None, show=not options.quiet) as bar:
        scores = evaluate(
            done,
            n=options.n,
            split=options.split,
            limit=options.limit,
            metrics=options.metrics,
            extractor=options.extractor,
            resize=options.resize,
            importance_samples=options.importance_samples,
            bootstrap=options.bootstrap,
            seed=options.seed,
            draws=options.draws,
            segmenter=options.segmenter,
            progress=bar,
        )
    print(render(scores) if options.recipes else render(scores, recipes=False))
    if options.per_subject:
        table = load_subjects(done.path / "evaluation.json")
        print("Figures by subject are of translators that have a truth." if table is None else f"\n{table}\n")
    print(f"Every figure's recipe is in {done.path / 'evaluation.json'} (or add --recipes).")
    return 0
