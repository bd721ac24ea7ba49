"""How a colour looks to whom, and how far two colours lie apart: for the tests of the charts.

It is small enough to be here and not in a package: the matrices are published, and the formulas are held to published
examples by test_accessibility.py.
"""

import numpy as np
from matplotlib.colors import to_rgb

# Linear RGB -> linear RGB as it looks with one kind of cone missing, at full strength.
# Source: Machado, Oliveira and Fernandes 2009, doi:10.1109/TVCG.2009.113, table 1.
VISION = {
    "full": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


def linear(colour) -> np.ndarray:
    """The (3,) linear RGB, 0 to 1, of a matplotlib colour (sRGB)."""
    rgb = np.array(to_rgb(colour))
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def contrast(colour, ground="white") -> float:
    """WCAG's contrast ratio of two colours, from 1 to 21. Source: www.w3.org/TR/WCAG22/#dfn-contrast-ratio."""
    darker, lighter = sorted(linear(c) @ [0.2126, 0.7152, 0.0722] + 0.05 for c in (colour, ground))
    return lighter / darker


def lab(colour, vision="full") -> np.ndarray:
    """CIE L*a*b* (D65) of a colour as somebody with that vision sees it."""
    seen = np.clip(np.array(VISION[vision]) @ linear(colour), 0, 1)
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]) @ seen
    ratio = xyz / [0.9505, 1.0, 1.089]
    f = np.where(ratio > (6 / 29) ** 3, np.cbrt(ratio), ratio * 841 / 108 + 4 / 29)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def ciede2000(one, other) -> float:
    """The colour difference CIEDE2000 of two L*a*b* triples; about 1 can just be seen, side by side.

    Source: Sharma, Wu and Dalal 2005, doi:10.1002/col.20070.
    """
    (l1, a1, b1), (l2, a2, b2) = one, other
    mean_chroma = (np.hypot(a1, b1) + np.hypot(a2, b2)) / 2
    stretch = 1.5 - np.sqrt(mean_chroma**7 / (mean_chroma**7 + 25**7)) / 2
    c1, c2 = np.hypot(a1 * stretch, b1), np.hypot(a2 * stretch, b2)
    h1, h2 = (np.degrees(np.arctan2(b, a * stretch)) % 360 for a, b in ((a1, b1), (a2, b2)))
    turn = (h2 - h1 + 180) % 360 - 180 if c1 * c2 else 0.0
    lightness, chroma, hue = (l1 + l2) / 2, (c1 + c2) / 2, h1 + turn / 2 if c1 * c2 else h1 + h2

    def wave(times, shift):
        return np.cos(np.radians(times * hue + shift))

    t = 1 - 0.17 * wave(1, -30) + 0.24 * wave(2, 0) + 0.32 * wave(3, 6) - 0.20 * wave(4, -63)
    by_lightness = (l2 - l1) / (1 + 0.015 * (lightness - 50) ** 2 / np.sqrt(20 + (lightness - 50) ** 2))
    by_chroma = (c2 - c1) / (1 + 0.045 * chroma)
    by_hue = 2 * np.sqrt(c1 * c2) * np.sin(np.radians(turn / 2)) / (1 + 0.015 * chroma * t)
    swing = np.sin(np.radians(60 * np.exp(-(((hue % 360 - 275) / 25) ** 2))))
    mixed = -2 * np.sqrt(chroma**7 / (chroma**7 + 25**7)) * swing * by_chroma * by_hue
    return float(np.sqrt(by_lightness**2 + by_chroma**2 + by_hue**2 + mixed))


def difference(colour, other, vision="full") -> float:
    """CIEDE2000 of two colours as somebody with that vision sees them."""
    return ciede2000(lab(colour, vision), lab(other, vision))
