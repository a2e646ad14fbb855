"""What the papers printed. They contradict each other and themselves in places: orders are compared, not decimals."""

from __future__ import annotations

SEED_TABLE_1 = {
    "original": {"retain": (0.4400, 26.9200, 0.0687), "forget": (0.4400, 26.9200, 0.0687)},
    "ssd": {"retain": (0.3824, 22.1602, 0.1807), "forget": (0.0967, 13.9782, 1.6210)},
    "ssd-repair": {"retain": (0.4012, 21.8743, 0.2104), "forget": (0.0712, 12.8703, 1.7901)},
    "bad-teacher": {"retain": (0.3654, 23.0041, 0.1573), "forget": (0.1523, 14.3507, 1.4925)},
    "ga-l1": {"retain": (0.3890, 21.6834, 0.1989), "forget": (0.1132, 13.1022, 1.7428)},
}
"""Corrective unlearning for MRI reconstruction, ICML 2025 workshop: SSIM, PSNR, NMSE. `ssd-repair` is SSD+FisherReg,
`ga-l1` is gradient ascent, which ran in the code of Xue et al."""

XUE_TABLE_1 = {
    "original": {"bta": (39.07, 0.964), "kta": (36.65, 0.894), "ua": (37.13, 0.905)},
    "oracle": {"bta": (39.36, 0.965), "kta": (31.82, 0.834), "ua": (31.74, 0.892)},
    "ft": {"bta": (39.18, 0.965), "kta": (36.67, 0.893), "ua": (37.18, 0.905)},
    "full-ft": {"bta": (39.12, 0.965), "kta": (36.26, 0.889), "ua": (36.60, 0.901)},
    "ga-l1": {"bta": (16.19, 0.172), "kta": (14.15, 0.156), "ua": (13.40, 0.162)},
    "nl": {"bta": (16.44, 0.502), "kta": (17.39, 0.421), "ua": (17.04, 0.428)},
    "ga-l1-ft": {"bta": (31.81, 0.910), "kta": (27.09, 0.735), "ua": (26.90, 0.739)},
    "nl-ft": {"bta": (38.24, 0.956), "kta": (31.18, 0.863), "ua": (31.72, 0.875)},
}
"""Xue et al., MIDL 2024: PSNR and SSIM on brain test, knee test and the forget set; 10 % of the retain data."""

XUE_TABLE_2 = {
    "ft": "hardly moves",
    "full-ft": "hardly moves",
    "ga-l1": "0.0 after epochs 51 and 52, 16.2 after 55",
    "nl": "stays at 16.4",
    "ga-l1-ft": "30.6 to 31.8",
    "nl-ft": "37.6 to 38.2",
}
"""PSNR on brain test over the five epochs of unlearning."""

XUE_TABLE_3 = {
    1: {"ft": (39.182, 36.743), "nl-ft": (25.607, 31.167), "ga-l1-ft": (25.385, 26.824)},
    5: {"ft": (39.051, 36.728), "nl-ft": (28.877, 31.297), "ga-l1-ft": (29.499, 25.924)},
    10: {"ft": (39.089, 35.452), "nl-ft": (38.243, 31.185), "ga-l1-ft": (32.128, 30.173)},
    20: {"ft": (39.070, 35.147), "nl-ft": (38.828, 31.468), "ga-l1-ft": (33.746, 30.150)},
    50: {"ft": (39.048, 35.115), "nl-ft": (38.484, 31.152), "ga-l1-ft": (32.381, 29.841)},
    100: {"ft": (39.119, 36.260), "nl-ft": (37.464, 31.122), "ga-l1-ft": (31.928, 29.461)},
}
"""PSNR on brain test and knee test by the percentage of retain data."""
