"""Folders of training records for the tests of the report, and a reader of its page."""

import json
from html.parser import HTMLParser

from PIL import Image

from adcopilot.chat_ad.report.report import write_report
from adcopilot.records import make_record

SIZE = (200, 100)
BOX = [40, 20, 100, 70]
#: Text that must reach the page as text: markup, a template's syntax, an end of the script, an event.
EVIL = '<img src=x onerror="window.pwned=1">\'"</script></style><script>window.pwned=1</script>{{ 7*7 }}{% raw %}&amp;'
#: A question with letters.
CHOICE = "Which?\nA. crack\nB. dent\nC. none\nD. stain"


def draw(folder, name, *, size=SIZE, colour=(128, 128, 128)):
    """A picture of one colour; returns its name."""
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(folder / name)
    return name


def pair_record(
    task="inspect", turns=(("Is there a defect?", "No."),), images=("images/t.png", "images/q.png"), **extra
):
    """A record about two images, normal unless said otherwise."""
    fields = {"task": task, "category": "bottle", "source": "mvtec", "anomalous": False, "defect": "", "boxes": []}
    return make_record(images=list(images), turns=turns, **{**fields, **extra})


def bad_record(task="inspect", turns=(("Is there a defect?", "Yes."),), **extra):
    """The same of an anomalous query with `BOX`."""
    fields = {"anomalous": True, "defect": "crack", "boxes": [BOX], "labels": ["crack"]}
    return pair_record(task, turns, **{**fields, **extra})


def write_lines(path, records):
    """A file of JSON lines; strings are written as they are."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [one if isinstance(one, str) else json.dumps(one, ensure_ascii=False) for one in records]
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return path


def make_folder(folder, **files):
    """A folder with two images and the given files of records (by their stems)."""
    draw(folder, "images/t.png")
    draw(folder, "images/q.png")
    for name, records in files.items():
        write_lines(folder / f"{name}.jsonl", records)
    return folder


class Page(HTMLParser):
    """What a browser would make of a page, as far as the tests ask.

    Attributes:
        tags: (name, attributes) in order.
        tables: label → rows of cells' texts, the head first.
        cards: texts of the gallery's articles.
        scripts, styles: their contents.
        text: all of it but those.
    """

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.tags, self.tables, self.cards, self.scripts, self.styles, self.text = [], {}, [], [], [], ""
        self._into, self._label = None, ""
        self._cell = self._card = None
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.tags.append((tag, attributes))
        if attributes.get("role") == "region" and "scroll" in attributes.get("class", ""):
            self._label = attributes["aria-label"]
            self.tables[self._label] = []
        if tag == "tr":
            self.tables[self._label].append([])
        elif tag in ("td", "th"):
            self._cell = ""
        elif tag == "article":
            self._card = ""
        elif tag in ("script", "style"):
            self._into = {"script": self.scripts, "style": self.styles}[tag]
            self._into.append("")

    handle_startendtag = handle_starttag

    def handle_endtag(self, tag):
        if tag in ("td", "th"):
            self.tables[self._label][-1].append(" ".join(self._cell.split()))
            self._cell = None
        elif tag == "article":
            self.cards.append(self._card)
            self._card = None
        elif tag in ("script", "style"):
            self._into = None

    def handle_data(self, data):
        if self._into is not None:
            self._into[-1] += data
            return
        self.text += data
        if self._cell is not None:
            self._cell += data
        if self._card is not None:
            self._card += data

    def rows(self, label):
        """A table's rows without its head and without empty cells at their ends (those of bars)."""
        found = []
        for row in self.tables[label][1:]:
            while row and not row[-1]:
                row = row[:-1]
            found.append(row)
        return found

    def find(self, tag, **attributes):
        """Attributes of the elements that have all of the given ones; a class is one of several."""
        found = []
        for name, has in self.tags:
            fits = all(
                value in (has.get(key) or "").split() if key == "class" else has.get(key) == value
                for key, value in ((key.rstrip("_"), value) for key, value in attributes.items())
            )
            if name == tag and fits:
                found.append(has)
        return found


def page_of(folder, **options):
    """The page about a folder, read."""
    write_report(folder=folder, output=folder / "report.html", **options)
    return Page((folder / "report.html").read_text("utf-8"))
