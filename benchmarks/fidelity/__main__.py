"""True to fastMRI, and ready for real size.

`threads.worst_ratio`: time with the threads that the command line chooses over that with the best choice, the worst of
models from 10,000 to 30 million parameters, of a trial and of gradients, on an idle machine and with a busy neighbour.
`masks.equal`: share of slices whose mask and masked k-space are those of fastMRI's own dataset, for every kind of mask.
`stock.{ssim,psnr,nmse}_diff`: the largest difference of a volume's measures to `fastmri.evaluate` (psnr in dB).
`data_check_s`, `data_check_cpu_s`, `data_check_gib`, `dry_run_s`, `dry_run_cpu_s`, `dry_run_gib`: seconds, seconds of
processors and peak memory of `data check` and of `study create --dry-run` on 1,000 sparse volumes of 15 slices (with
--quick 20 volumes).
`subset.P.{ssd,ssd-repair}.score_loss`: best s of a study whose method is given all retain slices less that of one given
P per cent of them (as `[data] retain_slices` draws them), both with the method's own sampler and scored on the same
held-out slices; `subset.P.score_loss` their mean. The two searches have different seeds, so at 100 % it is the search
alone. `subset.P.mode_{alpha,lambda}_decades`: how far the prior's mode moves. Means over simulated tasks (with --quick
one, 8 trials).
`random_masks.{random,frozen}.regret_N`: the best s known of a model less that of the first N trials with SSD's prior,
on models trained under new masks in each epoch and under one a file, means over simulated tasks;
`random_masks.regret_ratio`: of the former over the latter, N = 3.
`dry_run.METHOD.trial_error`: the seconds a trial that `create --dry-run` says over the mean of those of random
settings, evaluated in full; `dry_run.trial_error` the one of ssd, spectral and ft that is furthest from 1;
`dry_run.METHOD.analysis_error` the same of what is done before the first trial. `dry_run.METHOD.stopped_share`: mean
seconds a trial as studies run them, with early stopping and the method's own sampler, over those in full.
`--only PART...` for parts.
"""

from __future__ import annotations

from benchmarks.fidelity.dry_run import dry_run
from benchmarks.fidelity.random_masks import random_masks
from benchmarks.fidelity.size import size
from benchmarks.fidelity.stock import masks, stock
from benchmarks.fidelity.subset import subset
from benchmarks.fidelity.threads import threads
from benchmarks.harness import main_of_parts

PARTS = {
    "threads": threads,
    "masks": masks,
    "stock": stock,
    "size": size,
    "subset": subset,
    "random_masks": random_masks,
    "dry_run": dry_run,
}


if __name__ == "__main__":
    main_of_parts(__doc__ or "", PARTS)
