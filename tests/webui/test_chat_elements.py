"""The elements that LlamaFactory's pages are built of, with this package and without it.

Each page is built in a process of its own, as `llamafactory-cli` does, and described by gradio's own configuration of
it: components with all their properties, layout, events.
"""

import json

import pytest

pytest.importorskip("llamafactory", reason="needs LlamaFactory: the extra train")
pytest.importorskip("gradio", reason="needs gradio, which LlamaFactory installs")

OURS = {"compare_box", "template_images", "query_image", "compare_btn"}

# `sys.argv` is what `llamafactory-cli webchat` would read.
BUILD = """
import json, sys
from llamafactory.webui import interface
built = {}

def described(blocks, engine):
    return {**blocks.get_config_file(), "names": {one._id: name for name, one in engine.manager._id_to_elem.items()}}
engines = []

class Engine(interface.Engine):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        engines.append(self)
interface.Engine = Engine
for name, folder, template in json.loads(sys.argv.pop()):
    sys.argv[1:] = ["--model_name_or_path", folder, "--template", template]
    built[name] = described(interface.create_web_demo() if folder else interface.create_ui(), engines[-1])
print(json.dumps(built, default=lambda one: one.__qualname__))
"""


@pytest.fixture(scope="module")
def pages(nursery, tmp_path_factory, qwen_base_dir, adcopilot_dir):
    folder = tmp_path_factory.mktemp("pages")

    def build(*pages, **environment) -> dict:
        """The pages' configurations; a page is (its name, folder of its model or "" for LlamaBoard, template)."""
        result = nursery.run(json.dumps(pages), code=BUILD, env=environment, cwd=folder)
        assert result.returncode == 0, result.stderr[-3000:]
        return json.loads(result.stdout.splitlines()[-1])

    stock = [("board", "", ""), ("stock", str(qwen_base_dir), "qwen2_vl")]
    return {
        "with": build(*stock, ("ours", str(adcopilot_dir), "adcopilot")),
        "without": build(*stock, ADCOPILOT_PLUGIN="0"),
    }


def named(page: dict) -> dict[str, int]:
    """Identity of each named element: `infer.query` and so on."""
    return {name: int(number) for number, name in page["names"].items()}


def tree(page: dict, *, without: frozenset[int] = frozenset()) -> list:
    """Type, properties and children of every element, numbered in the order in which they stand on the page."""
    components = {one["id"]: one for one in page["components"]}

    def walk(node):
        children = [walk(child) for child in node.get("children", []) if child["id"] not in without]
        if node["id"] not in components:
            return children
        one = components[node["id"]]
        # what has been chosen at the start of a process, and what LlamaFactory knows since this package is there
        hidden = {"name", "elem_id", "key", "_selectable", "proxy_url"}
        props = {key: value for key, value in one["props"].items() if key not in hidden}
        if one["type"] == "dropdown":
            props["choices"] = [choice for choice in props["choices"] if "adcopilot" not in squeezed(choice)]
        return [one["type"], props, children]

    return walk(page["layout"])


def squeezed(choice) -> str:
    return choice[0].lower().replace("-", "")


def events(page: dict) -> list:
    """What triggers each event, and how many values go in and out."""
    names = {int(number): name for number, name in page["names"].items()}
    return [
        (
            [(names.get(target[0], ""), target[1]) for target in one["targets"]],
            [names.get(number, "") for number in one["inputs"]],
            sorted(names.get(number, "") for number in one["outputs"]),  # LlamaFactory lists some from sets
            one["queue"],
        )
        for one in page["dependencies"]
    ]


def test_a_stock_models_webchat_is_llamafactorys(pages):
    page, expected = pages["with"]["stock"], pages["without"]["stock"]
    assert tree(page) == tree(expected)
    assert events(page) == events(expected)
    assert list(page["names"].values()) == list(expected["names"].values())
    assert len(page["components"]) == len(expected["components"])


def test_llamaboard_has_all_elements_of_llamafactory_and_hides_ours(pages):
    page, expected = pages["with"]["board"], pages["without"]["board"]
    names = named(page)
    assert {name.removeprefix("infer.") for name in set(names) - set(named(expected))} == OURS
    tops = frozenset(names[f"infer.{name}"] for name in ("compare_box", "compare_btn"))
    added = {one["id"]: one["props"] for one in page["components"] if one["id"] in tops}
    assert [props["visible"] for props in added.values()] == [False, False]
    states = sum(one["type"] == "state" for one in page["components"])
    assert states - sum(one["type"] == "state" for one in expected["components"]) == 1  # invisible by nature
    assert tree(page, without=tops | extra_states(page, expected)) == tree(expected)
    # LlamaFactory's own events: all there, with the same values in and out but where every element is an output
    missing = [one for one in events(expected) if one not in events(page)]
    assert missing == [one for one in events(expected) if len(one[2]) == len(expected["names"])]
    assert [one[0] for one in missing] == [[("", "load")], [("top.lang", "change")]]


def extra_states(page: dict, expected: dict) -> frozenset[int]:
    numbers = [
        sorted(one["id"] for one in one_page["components"] if one["type"] == "state") for one_page in (page, expected)
    ]
    return frozenset(numbers[0][len(numbers[1]) :])


def test_our_webchat_shows_two_slots_beside_each_other_before_the_submit_button(pages):
    page = pages["with"]["ours"]
    names = named(page)
    props = {one["id"]: one["props"] for one in page["components"]}
    shown = {name: props[names[f"infer.{name}"]]["visible"] for name in (*OURS, "mm_box", "submit_btn", "query")}
    assert shown == {**dict.fromkeys(OURS, True), "mm_box": False, "submit_btn": False, "query": True}
    order = [number for number in numbers(page["layout"]) if number in names.values()]
    places = [order.index(names[f"infer.{name}"]) for name in ("system", "template_images", "query_image", "query")]
    assert places == sorted(places)
    assert parent(page["layout"], names["infer.template_images"]) == parent(page["layout"], names["infer.query_image"])


@pytest.mark.parametrize("page", ["board", "ours"])
def test_slots_are_built_with_their_words(pages, page):
    """A page that is opened over a slow connection keeps the words that it was built with."""
    page = pages["with"][page]
    names, props = named(page), {one["id"]: one["props"] for one in page["components"]}
    words = [props[names[f"infer.{name}"]] for name in ("template_images", "query_image", "compare_btn")]
    assert [words[0]["label"], words[1]["label"], words[2]["value"]] == ["Template images", "Query image", "Submit"]


def numbers(node: dict) -> list[int]:
    return [node["id"], *(number for child in node.get("children", []) for number in numbers(child))]


def parent(node: dict, wanted: int) -> int | None:
    for child in node.get("children", []):
        if child["id"] == wanted:
            return node["id"]
        if (found := parent(child, wanted)) is not None:
            return found
    return None
