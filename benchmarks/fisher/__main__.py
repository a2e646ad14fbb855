"""The Fisher analysis: exact, fast, and within its memory budget.

Speed-ups are ratios of whole times, taken in turn in this run, medians of 5 (`--quick`: curvlinops once, the large
VarNet and the plane of 30 M parameters fewer times).

`speedup_vs_curvlinops_n*`: gradients, Gram matrix and eigendecomposition of n samples against curvlinops' empirical
Fisher (EFLinearOperator, all samples in one batch) with scipy's eigsh (k = 20, tolerance 1e-5, quicker than its
default) on a ResNet-9 in eval mode; `eigen_rel_err`: largest relative difference of any of the 20 eigenvalues.
`diagonal_*`: diagonals over a whole sample set against the published SSD importance loop at batch 1.
`diagonal_speedup` on a small VarNet of 32 pixels, where vectorising pays, `diagonal_speedup_48px` of 48;
`diagonal_ratio_loop` is our time over the loop's for 128 pixels, where it does not.
`damage_plane_speedup`: all terms on a 64 x 64 plane, sorting and summing included, against summing the same terms at
each point (timed at some of the points), 1 M parameters and 8 gradients a set. `damage_plane_30m_s`: sort, sums, tables
of 2 gradients a set and the plane for 30 M parameters; `damage_growth_exponent`: slope of log time on log parameters,
0.1 to 30 M.
`analyse.CASE.s`, `.mib`: whole analyses, each in a fresh process: seconds, and the increase of its resident memory, all
pages counted, those of mapped files too: peak while `analyse` ran less what there was before (libraries, model and
data, after a tiny analysis that loads what is loaded at first use). `memory_over_budget`: the largest such increase
over its `memory_budget`; in the cases `*_spilled` the gradients do not fit.
`cuda.*`: the paper's VarNet (12 cascades, 18 channels) on 4-coil slices of 256 x 256, 128 a set;
`cuda.matrix_rate_share`: the matrix work of one forward and backward pass a slice over the whole time, as a share of
the measured rate of a large product.
"""

from __future__ import annotations

from benchmarks.fisher.damage import damage_planes
from benchmarks.fisher.gpu import paper_varnet
from benchmarks.fisher.memory import case_options, growth, run_case
from benchmarks.fisher.speed import against_curvlinops, against_published_loop
from benchmarks.harness import main_of_parts

PARTS = {
    "curvlinops": against_curvlinops,
    "diagonal": against_published_loop,
    "damage": damage_planes,
    "memory": growth,
    "cuda": paper_varnet,
}


if __name__ == "__main__":
    if chosen := case_options():
        run_case(chosen.case, chosen.seed)
    else:
        main_of_parts(__doc__ or "", PARTS)
