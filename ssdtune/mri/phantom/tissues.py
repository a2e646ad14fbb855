"""Tissues and sequences: what a spin echo shows of water and fat at 3 T.

Notation: TR repetition time, TE echo time, T1 and T2 relaxation times, all in ms; PD proton density relative to water.
Signal of a spin echo (TE << TR): PD (1 - exp(-TR / T1)) exp(-TE / T2); Bernstein, King & Zhou, Handbook of MRI Pulse
Sequences, 2004, eq. 14.54.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Tissue:
    """Relaxation times (ms), proton density, share of fat, and ``texture``: the relative spread of the signal."""

    t1: float
    t2: float
    pd: float
    fat: float = 0.0
    texture: float = 0.03


@dataclass(frozen=True)
class Sequence:
    """A spin echo: TR and TE (ms); ``fat_saturation`` is the share of the fat signal that is suppressed."""

    tr: float
    te: float
    fat_saturation: float = 0.0


# Sources at 3 T. Grey and white matter: Wansapura et al., JMRI 9:531, 1999. Deep grey (putamen) T1: Wright et al.,
# MAGMA 21:121, 2008. CSF T1: Rooney et al., MRM 57:308, 2007. Knee (muscle, cartilage, fluid, fat, marrow): Gold et
# al., AJR 183:343, 2004. Blood: Stanisz et al., MRM 54:507, 2005. Proton densities of brain and fat, and the
# relaxation of skin: BrainWeb, Collins et al., IEEE TMI 17:463, 1998. What these do not give (T2 of deep grey and
# CSF, other proton densities, texture) is chosen. Cortical bone, tendon and ligament decay before the echo (T2 well
# under 10 ms), and blood that flows leaves the slice between the two pulses: they are dark whatever the TE.
TISSUES: dict[str, Tissue] = {
    "grey_matter": Tissue(t1=1331, t2=110, pd=0.86),
    "white_matter": Tissue(t1=832, t2=80, pd=0.77),
    "deep_grey": Tissue(t1=1332, t2=85, pd=0.82),
    "csf": Tissue(t1=4300, t2=2000, pd=1.0, texture=0.02),
    "skin": Tissue(t1=900, t2=47, pd=0.7, texture=0.1),
    "fat": Tissue(t1=371, t2=133, pd=1.0, fat=1.0, texture=0.08),
    "marrow": Tissue(t1=365, t2=133, pd=0.9, fat=0.9, texture=0.05),
    "bone": Tissue(t1=1000, t2=0.5, pd=0.2, texture=0.0),
    "muscle": Tissue(t1=1420, t2=31.7, pd=1.0, texture=0.08),
    "tendon": Tissue(t1=1000, t2=5, pd=0.7, texture=0.05),
    "cartilage": Tissue(t1=1240, t2=36.9, pd=0.9, texture=0.05),
    "fluid": Tissue(t1=3620, t2=767, pd=1.0, texture=0.02),
    "vein": Tissue(t1=1932, t2=275, pd=0.9, texture=0.02),
    "artery": Tissue(t1=1932, t2=275, pd=0.05, texture=0.0),
}

# usual clinical settings of T1-, T2- and PD-weighted (fast) spin echo, with and without fat saturation
SEQUENCES: dict[str, Sequence] = {
    "t1": Sequence(tr=550, te=10),
    "t2": Sequence(tr=4500, te=95),
    "pd": Sequence(tr=3000, te=25),
    "pdfs": Sequence(tr=3000, te=25, fat_saturation=0.9),
}


def spin_echo(tissue: Tissue, sequence: Sequence) -> float:
    """Signal of a tissue, relative to fully relaxed water; see the head of this file."""
    relaxed = tissue.pd * (1 - np.exp(-sequence.tr / tissue.t1)) * np.exp(-sequence.te / tissue.t2)
    return float(relaxed * (1 - sequence.fat_saturation * tissue.fat))
