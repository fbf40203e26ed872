"""Charts: the same bytes for the same numbers, texts as texts, places where the numbers say, dark by a style sheet."""

import re
import subprocess
import sys
import xml.etree.ElementTree as ET

import matplotlib
import pytest

from adcopilot.pages.charts import Bar, Point, Series, chart_style, column_plot, line_plot, radar_plot, ranked_plot

SVG = "{http://www.w3.org/2000/svg}"
EVIL = "</script><img src=x onerror='window.pwned = 1'>|$x$ _a \x00\ud800 中文"


def points(*values):
    return [Point(x=10.0**place, y=value, low=value - 1, high=value + 1) for place, value in enumerate(values, 2)]


def all_kinds(name):
    lines = [Series(name=name, points=points(1, 2, 4)), Series(name=f"_{name}", points=points(3, 3, 3), faint=True)]
    return {
        "line": line_plot(name, lines, x_label="n", y_label="y", log_x=True),
        "column": column_plot(name, ["a", name], [Series(name=name, points=[Point(x=0, y=3), Point(x=1, y=5)])],
                              y_label="y"),
        "histogram": column_plot(name, ["≤ 4", "> 4"], [Series(name="", points=[Point(x=0, y=1200)])], ground=False),
        "radar": radar_plot(name, ["a", "b", name], [Series(name=name, points=[Point(x=0, y=50), Point(x=1, y=60),
                                                                               Point(x=2, y=70)])]),
        "ranked": ranked_plot(name, [Bar(name=name, value=50, low=40, high=60, colour=0), Bar(name="b", value=90,
                                                                                              unranked=True)]),
    }  # fmt: skip


def paths(svg, told):
    """The commands of the part that says this, as numbers."""
    part = next(one for one in ET.fromstring(svg).iter(f"{SVG}g") if one.findtext(f"{SVG}title") == told)
    line = part.find(f"{SVG}path").get("d")
    return [tuple(map(float, pair)) for pair in re.findall(r"([-\d.]+) ([-\d.]+)", line)]


@pytest.mark.parametrize("kind", all_kinds("a"))
def test_the_same_numbers_give_the_same_bytes_whatever_the_users_settings(kind):
    once = all_kinds(EVIL)[kind]
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "red", "svg.fonttype": "path"}):
        assert all_kinds(EVIL)[kind] == once
    root = ET.fromstring(once)
    assert "<img" not in once
    assert not [one for one in root.iter() if "style" in one.attrib]  # which a page's policy would refuse
    assert "window.pwned" in root.get("aria-label")
    assert not re.search(r"\bid=\"(figure|axes|patch|told)", once)


def test_nothing_is_said_about_letters_that_matplotlibs_font_lacks(recwarn):
    assert "中文" in all_kinds("中文")["ranked"]
    assert [str(one.message) for one in recwarn] == []


def test_equal_factors_are_equal_distances():
    svg = line_plot("T", [Series(name="a", points=points(1, 2, 4))], x_label="n", y_label="y", log_x=True)
    xs, ys = zip(*paths(svg, "a: 100: 1.00, 1,000: 2.00, 10,000: 4.00"), strict=True)
    assert xs[1] - xs[0] == pytest.approx(xs[2] - xs[1], abs=0.01)
    assert ys[0] - ys[1] == pytest.approx((ys[1] - ys[2]) / 2, abs=0.01)
    assert xs[0] < xs[1]
    assert ys[0] > ys[1]  # higher is further up


def part(lines, **settings):
    return line_plot("T", lines, x_label="step", y_label="y", ground=False, **settings)


def test_plots_of_one_range_are_compared():
    def height(value, **settings):
        line = Series(name="a", points=[Point(x=0, y=value), Point(x=1, y=value)])
        return paths(part([line], **settings), f"a: 0: {value:.2f}, 1: {value:.2f}")[0][1]

    low, half, high = (height(value, y_range=(0, 1)) for value in (0, 0.5, 1))
    assert low > half > high  # higher is further up
    assert half == pytest.approx((low + high) / 2, abs=0.01)
    assert height(0.5) == height(1)  # each in the middle of its own


def test_a_part_of_a_page_has_neither_ground_nor_heading_and_a_faint_line_no_marks():
    points = [Point(x=step, y=step % 3) for step in range(60)]
    root = ET.fromstring(part([Series(name="a", points=points[:3]), Series(name="b", points=points, faint=True)]))
    assert root.find(f"{SVG}title") is None
    assert "T" not in [text.text for text in root.iter(f"{SVG}text")]
    told = {group.findtext(f"{SVG}title"): len(list(group.iter(f"{SVG}use"))) for group in root.iter(f"{SVG}g")}
    assert told["a: 0: 0.00, 1: 1.00, 2: 2.00"] == 3
    assert told["b: from 0: 0.00 to 59: 2.00"] == 0  # nobody would listen to sixty


def test_a_radar_plot_starts_at_the_top_and_goes_to_the_right():
    line = [Series(name="a", points=[Point(x=place, y=value) for place, value in enumerate((100, 70, 70, 70))])]
    top, right, bottom, left, *_ = paths(radar_plot("T", list("wxyz"), line), "a: w 100.0, x 70.0, y 70.0, z 70.0")
    assert left[1] == pytest.approx(right[1])
    assert left[0] < top[0] < right[0]
    assert top[0] == pytest.approx(bottom[0])
    # From 60 in the middle: 100 is four times as far from it as 70.
    assert right[1] - top[1] == pytest.approx(4 * (bottom[1] - right[1]), rel=0.01)


def test_a_bar_is_as_long_as_its_number():
    svg = ranked_plot("T", [Bar(name="a", value=40, colour=0), Bar(name="b", value=80)])
    lengths = [max(x for x, _ in found) - min(x for x, _ in found) for found in (paths(svg, "a: 40.00"),
                                                                               paths(svg, "b: 80.00"))]  # fmt: skip
    assert lengths[1] == pytest.approx(2 * lengths[0], rel=0.01)


def test_every_colour_has_a_dark_one():
    parts = [one for svg in all_kinds("a").values() for one in ET.fromstring(svg).iter()]
    drawn = {value for one in parts for value in (one.get("fill", ""), one.get("stroke", "")) if value[:1] == "#"}
    known = set(re.findall(r'fill="(#\w+)"', chart_style()))
    assert drawn <= known
    assert len(known) == 13


def test_matplotlib_is_imported_when_a_chart_is_drawn():
    code = "import sys, adcopilot, adcopilot.pages.charts; print('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"
