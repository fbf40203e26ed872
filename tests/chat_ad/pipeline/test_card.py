"""The card beside a build's files says what its manifest says, in the form of a hub."""

import pytest

from adcopilot.cards import read_card
from adcopilot.chat_ad.pipeline.card import write_data_card


@pytest.fixture
def manifest():
    return {
        "recipes": {"mine": {}, "other": {}},
        "datasets": {
            "parts": {
                "reader": "folder",
                "licence": "the user's own",
                "images": 12,
                "normal": 8,
                "anomalous": 4,
                "pairs": 9,
                "left_out": {"measure: dark": 2},
            }
        },
        "outputs": {
            "Chat": {
                "records": 5,
                "wanted": 8,
                "tasks": {"mc": 3, "loc": 2},
                "recipe": "mine",
                "generator": "template",
            },
            "MagicBrush": {
                "records": 1200,
                "wanted": 1200,
                "tasks": {"dialogue": 1200},
                "recipe": "other",
                "convert": "magicbrush",
                "licence": "CC BY 4.0 | see there",
            },
        },
    }


def test_sources_counts_tasks_licences_and_limits(manifest, tmp_path):
    write_data_card(manifest, tmp_path)
    text, front = read_card(tmp_path)
    assert front["license"] == "other"
    assert front["size_categories"] == ["1K<n<10K"]
    assert front["configs"] == [
        {"config_name": "Chat", "data_files": "Chat.jsonl"},
        {"config_name": "MagicBrush", "data_files": "MagicBrush.jsonl"},
    ]
    assert "# mine, other\n" in text
    assert "| Chat.jsonl | 5 | mc 3, loc 2 | template | mine |\n" in text
    assert "| parts (folder) | 12 | 8 | 4 | 9 | the user's own |\n" in text
    assert "| MagicBrush (magicbrush) | | | | | CC BY 4.0 \\| see there |\n" in text
    assert "- parts: left out: measure: dark 2.\n" in text
    assert "- Chat: 5 records of 8 that were wanted.\n" in text
    assert "MagicBrush: 1200 records of" not in text


def test_it_is_renewed_but_somebody_elses_stays(manifest, tmp_path, capsys):
    write_data_card(manifest, tmp_path)
    manifest["outputs"]["Chat"]["records"] = 6
    write_data_card(manifest, tmp_path)
    assert "| Chat.jsonl | 6 |" in read_card(tmp_path)[0]
    (tmp_path / "README.md").write_text("mine")
    capsys.readouterr()
    write_data_card(manifest, tmp_path)
    assert (tmp_path / "README.md").read_text() == "mine"
    assert "stays as it is; no card is written" in capsys.readouterr().err
