"""Line charts on logarithmic axes as one SVG file; nothing but text is needed.

    draw("out.svg", "title", [Panel("throughput", "streams", "tokens/s", [Line("2 threads", BLUE, [(1, 90.0), (2, 150.0)])])])
"""
import dataclasses
import math
import xml.sax.saxutils

BLUE, RED, GREEN, GREY = "#3b6ea5", "#c2513f", "#4f8a4c", "#8a8a8a"
TEXT, GRID, FRAME = "#333333", "#e4e4e4", "#9a9a9a"
WIDTH, HEIGHT = 560, 360                      # of a panel
LEFT, RIGHT, TOP, BOTTOM = 70, 30, 40, 74     # margins inside it
TITLE = 34                                    # height above all panels


@dataclasses.dataclass
class Line:
    label: str
    color: str
    points: list            # (x, y), both above 0
    dashed: bool = False    # thin and without dots: what is computed, not measured


@dataclasses.dataclass
class Mark:
    x: float
    label: str


@dataclasses.dataclass
class Panel:
    title: str
    x_label: str
    y_label: str
    lines: list
    marks: list = dataclasses.field(default_factory=list)


def escape(text):
    return xml.sax.saxutils.escape(str(text))


def text_at(x, y, text, anchor="middle", size=12, color=TEXT, turned=False):
    turn = f' transform="rotate(-90 {x:.1f} {y:.1f})"' if turned else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" fill="{color}"{turn}>{escape(text)}</text>'


def segment(x1, y1, x2, y2, color, dash=""):
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{color}"' + (
        f' stroke-dasharray="{dash}"/>' if dash else "/>")


def round_values(low, high):
    """1, 2 and 5 times powers of ten within the range."""
    return [m * 10.0**e for e in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1) for m in (1, 2, 5)
            if low <= m * 10.0**e <= high]


def number(x):
    return f"{x:,.0f}" if x >= 10 or x == round(x) else f"{x:g}"


class Axes:
    """From values to places inside one panel."""

    def __init__(self, panel, x0, y0):
        xs = [x for line in panel.lines for x, _ in line.points]
        ys = [y for line in panel.lines for _, y in line.points]
        self.x_low, self.x_high = min(xs), max(max(xs), min(xs) * 2)
        self.y_low, self.y_high = min(ys) / 1.3, max(ys) * 1.3
        self.left, self.right, self.top, self.bottom = x0 + LEFT, x0 + WIDTH - RIGHT, y0 + TOP, y0 + HEIGHT - BOTTOM
        self.x_ticks = sorted({x for line in panel.lines if not line.dashed for x, _ in line.points})

    def x(self, value):
        share = math.log(value / self.x_low) / math.log(self.x_high / self.x_low)
        return self.left + share * (self.right - self.left)

    def y(self, value):
        share = math.log(value / self.y_low) / math.log(self.y_high / self.y_low)
        return self.bottom - share * (self.bottom - self.top)


def draw_frame(panel, axes):
    out = [text_at((axes.left + axes.right) / 2, axes.top - 14, panel.title, size=14),
           text_at((axes.left + axes.right) / 2, axes.bottom + 36, panel.x_label),
           text_at(axes.left - 50, (axes.top + axes.bottom) / 2, panel.y_label, turned=True)]
    for value in round_values(axes.y_low, axes.y_high):
        out += [segment(axes.left, axes.y(value), axes.right, axes.y(value), GRID),
                text_at(axes.left - 6, axes.y(value) + 4, number(value), "end", 11)]
    for value in axes.x_ticks:
        out += [segment(axes.x(value), axes.top, axes.x(value), axes.bottom, GRID),
                text_at(axes.x(value), axes.bottom + 17, number(value), size=11)]
    out.append(f'<rect x="{axes.left}" y="{axes.top}" width="{axes.right - axes.left}" height="{axes.bottom - axes.top}" '
               f'fill="none" stroke="{FRAME}"/>')
    return out


def draw_line(line, axes):
    places = " ".join(f"{axes.x(x):.1f},{axes.y(y):.1f}" for x, y in line.points)
    style = 'stroke-width="1.2" stroke-dasharray="5 4"' if line.dashed else 'stroke-width="2"'
    dots = [] if line.dashed else [f'<circle cx="{axes.x(x):.1f}" cy="{axes.y(y):.1f}" r="3" fill="{line.color}"/>'
                                   for x, y in line.points]
    return [f'<polyline points="{places}" fill="none" stroke="{line.color}" {style}/>', *dots]


def draw_marks(panel, axes):
    out = []
    for i, mark in enumerate(m for m in panel.marks if axes.x_low <= m.x <= axes.x_high):
        x, y = axes.x(mark.x), axes.top + 14 + 14 * (i % 3)
        anchor, shift = ("end", -5) if x > (axes.left + axes.right) / 2 else ("start", 5)
        out += [segment(x, axes.top, x, axes.bottom, FRAME, "2 3"), text_at(x + shift, y, mark.label, anchor, 11, TEXT)]
    return out


def draw_legend(panel, axes):
    out, x, y = [], axes.left, axes.bottom + 58
    for line in panel.lines:
        out += [segment(x, y - 4, x + 22, y - 4, line.color, "5 4" if line.dashed else ""),
                text_at(x + 27, y, line.label, "start", 11)]
        x += 42 + 5.4 * len(line.label)
    return out


def draw(path, title, panels, columns=2):
    rows = (len(panels) + columns - 1) // columns
    width, height = WIDTH * columns, TITLE + HEIGHT * rows
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
           'font-family="Helvetica, Arial, sans-serif">', f'<rect width="{width}" height="{height}" fill="white"/>',
           text_at(width / 2, 24, title, size=16)]
    for i, panel in enumerate(panels):
        axes = Axes(panel, WIDTH * (i % columns), TITLE + HEIGHT * (i // columns))
        out += draw_frame(panel, axes)
        for line in panel.lines:
            out += draw_line(line, axes)
        out += draw_marks(panel, axes) + draw_legend(panel, axes)
    with open(path, "w") as f:
        f.write("\n".join([*out, "</svg>", ""]))
