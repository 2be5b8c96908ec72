"""A report of figures over the gate as a table in Markdown and as a plot."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..conversation.pictures import png_bytes

if TYPE_CHECKING:
    from PIL import ImageDraw

COLUMNS = 3
SHOWN = 5  # sources of samples that are left out
PANEL = (340, 220)  # pixels
MARGINS = (64, 34, 18, 34)  # of a panel: left, top, right, bottom
INK, PALE, LINE, OWN = "#222222", "#dddddd", "#1f6fb2", "#c2571a"

# What each figure says, in ASCII, since Pillow's own font has little else, and which way is good: "+" more, "-" less,
# "" neither.
MEANINGS = {
    "clip_t": ("CLIP-T: picture and caption", "+"),
    "clip_i_reference": ("CLIP-I to the references", "+"),
    "clip_i_first": ("CLIP-I to the story's first picture", "+"),
    "clip_i_target": ("CLIP-I to the data's picture", "+"),
    "clip_i_within": ("CLIP-I within stories", "+"),
    "clip_i_across": ("CLIP-I across stories", ""),
    "dino_reference": ("DINO to the references", "+"),
    "dino_first": ("DINO to the story's first picture", "+"),
    "dino_target": ("DINO to the data's picture", "+"),
    "dino_within": ("DINO within stories", "+"),
    "dino_across": ("DINO across stories", ""),
    "lpips_reference": ("LPIPS to the references", ""),
    "lpips_first": ("LPIPS to the story's first picture", ""),
    "lpips_target": ("LPIPS to the data's picture", "-"),
    "fid": ("FID by the features of the network", "-"),
    "kid": ("KID by the features of the network", "-"),
    "mm_relevance": ("MM-Relevance of replies", "+"),
    "copy_paste": ("Near-copies of a reference", "-"),
    "species": ("Right species", "+"),
    "scene": ("Right scene", "+"),
    "prop": ("Right prop", "+"),
    "appearance_kept": ("Look kept", "+"),
}


def markdown(report: dict[str, Any]) -> str:
    """Return a report as Markdown: a row for each figure, a column for each gate, then what is left out and why."""
    curve = report["gate_curve"]
    data = report["data"]
    part = f", {data['split']}" if data["split"] else ""
    unseen = report.get("with_unseen_pictures_of_users", 0)
    lines = [
        f"# {data['path']} ({data['kind']}{part})",
        "",
        f"{report['pictures']} pictures at each gate, {report['with_references']} with references"
        + (f", {unseen} with pictures of users that the language model cannot see; " if unseen else "; ")
        + f"seed {report['seed']}."
        + ("" if report["complete"] else " The measurement was stopped before its end."),
        "",
        "| | " + " | ".join(f"gate {row['gate']:g}" for row in curve) + " | the data itself |",
        "| --- |" + " ---: |" * (len(curve) + 1),
    ]
    arrows = {"+": " ↑", "-": " ↓", "": ""}
    for name in measured(report):
        title, good = MEANINGS.get(name, (name, ""))
        values = [row[name] for row in curve] + [report["data_itself"].get(name)]
        lines.append(f"| {title}{arrows[good]} | " + " | ".join(map(_written, values)) + " |")
    networks = {name: network for name, network in report["evaluators"].items() if network}
    if networks:
        lines += ["", "Networks: " + ", ".join(f"{name} {network}" for name, network in networks.items()) + "."]
    if long := report.get("captions_too_long"):
        more = f" and {len(long) - SHOWN} more" if len(long) > SHOWN else ""
        lines += [
            "",
            f"Captions longer than the decoder takes, which are not painted: {', '.join(long[:SHOWN])}{more}.",
        ]
    if report["left_out"]:
        lines += ["", "Left out:", ""]
        reasons: dict[str, list[str]] = {}
        for name, reason in report["left_out"].items():
            reasons.setdefault(reason, []).append(name)
        lines += [f"- {', '.join(names)}: {reason}." for reason, names in reasons.items()]
    return "\n".join(lines) + "\n"


def measured(report: dict[str, Any]) -> list[str]:
    """Return the names of the figures that have a value at some gate, in the order in which they are shown."""
    found = {name for row in report["gate_curve"] for name, value in row.items() if value is not None} - {"gate"}
    order = list(MEANINGS)
    return sorted(found, key=lambda name: (order.index(name) if name in order else len(order), name))


def plot(report: dict[str, Any]) -> bytes:
    """Return the gate curve as a PNG, a panel for each figure; the dashed line is the data itself."""
    from PIL import Image, ImageDraw

    names = measured(report)
    rows = max(1, -(-len(names) // COLUMNS))
    image = Image.new("RGB", (PANEL[0] * min(COLUMNS, max(1, len(names))), PANEL[1] * rows), "white")
    draw = ImageDraw.Draw(image)
    for number, name in enumerate(names):
        corner = PANEL[0] * (number % COLUMNS), PANEL[1] * (number // COLUMNS)
        points = [(row["gate"], row[name]) for row in report["gate_curve"] if row[name] is not None]
        _panel(draw, corner, MEANINGS.get(name, (name, ""))[0], points, report["data_itself"].get(name))
    return png_bytes(image)


def _panel(
    draw: ImageDraw.ImageDraw,
    corner: tuple[int, int],
    title: str,
    points: Sequence[tuple[float, float]],
    own: float | None,
) -> None:
    """Draw a panel: axes, the curve, and the level of the data itself."""
    left, top = corner[0] + MARGINS[0], corner[1] + MARGINS[1]
    right, bottom = corner[0] + PANEL[0] - MARGINS[2], corner[1] + PANEL[1] - MARGINS[3]
    values = [value for _, value in points] + ([] if own is None else [own])
    low, high = min(values), max(values)
    spare = (high - low) * 0.1 or max(abs(high), 1e-3) * 0.1
    low, high = low - spare, high + spare
    first, last = points[0][0], points[-1][0]

    def place(gate: float, value: float) -> tuple[float, float]:
        across = (gate - first) / (last - first) if last > first else 0.5
        return left + across * (right - left), bottom - (value - low) / (high - low) * (bottom - top)

    draw.text((left, corner[1] + 8), title, fill=INK, font=_font(13))
    for value in (low + spare, high - spare):
        y = place(first, value)[1]
        draw.line((left, y, right, y), fill=PALE)
        draw.text((left - 6, y), _written(value), fill=INK, font=_font(11), anchor="rm")
    for gate, _ in points:
        x = place(gate, low)[0]
        draw.line((x, bottom, x, bottom + 4), fill=INK)
        draw.text((x, bottom + 6), f"{gate:g}", fill=INK, font=_font(10), anchor="ma")
    draw.line((left, top, left, bottom, right, bottom), fill=INK)
    draw.text((right, bottom + 19), "gate", fill=INK, font=_font(10), anchor="ra")
    if own is not None:
        y = place(first, own)[1]
        for x in range(left, right, 9):
            draw.line((x, y, min(x + 5, right), y), fill=OWN, width=2)
    spots = [place(*point) for point in points]
    if len(spots) > 1:
        draw.line(spots, fill=LINE, width=2)
    for x, y in spots:
        draw.ellipse((x - 3, y - 3, x + 3, y + 3), fill=LINE)


def _font(size: int) -> Any:
    from PIL import ImageFont

    return ImageFont.load_default(size)


def _written(value: float | None) -> str:
    return "—" if value is None else f"{value:.4g}"
