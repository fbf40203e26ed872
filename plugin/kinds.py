"""What names of folders, classes and labels say about a part: good, a kind of defect, a defect without one, or its
mask."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from pathlib import PurePosixPath

__all__ = ["GOOD", "NO_KIND", "Label", "defect_name", "is_code", "is_good", "is_masks", "labels_of"]

#: (is defective, kind of defect or "")
Label = tuple[bool, str]

# In English, and in the languages of other shop floors: German, French, Spanish, Italian, Portuguese, Dutch, Polish,
# Czech, Turkish, Chinese, Japanese, Korean, Russian.
_NO_KIND = """
    abnormal abnormalities abnormality anomalies anomalous anomaly bad bads defect defected defective defectives
    defects error errors fail failed fails failure failures false fault faults faulty flaw flawed flaws general invalid
    issue issues ko kos misc miscellaneous mixed n_ok ng ngs no_name nok noks none null problem problems various waste
    incorrect no_good no_ok non_conform non_conforming non_conformity nonconform nonconforming not_good notgood
    not_ok notok other others outlier outliers reject rejected rejects scrap unknown unlabeled unlabelled unnamed wrong
    with_defect with_defects
    anomalie anomalien ausschuss defekt defekte fehler fehlerhaft n_i_o nicht_ok nio schlecht
    anormal defaut defauts defectueux mauvais non_conforme rebut
    anomalia anomalias defecto defectos defectuoso mala malo malos rechazado rechazo
    anomalo cattivo defeito defeitos defeituoso difetti difetto difettoso ruim scarti scarto
    afkeur defecten fout hata hatali kusurlu slecht spatny vada vadny vady wada wadliwy wady zly
    不良 不良品 缺陷 异常 異常 次品 不合格 坏 壞 瑕疵 欠陥 불량 불량품 결함 брак дефект дефекты плохо
"""
_GOOD = """
    acceptable accepted anomaly_free clean conforming correct defect_free defectfree flawless golden good goods
    healthy intact no_anomaly no_defect no_defects nodefect nominal
    non_anomalous non_defective nondefective normal normals not_anomalous not_defective ok okay oks pass passed
    passes perfect unbroken undamaged
    bien bom bon bonne bons buena bueno buenos buoni buono conforme dobra dobre dobry fehlerfrei goed gut gute gutteil
    gutteile i_o in_ordnung io normale normales normali sans_defaut sans_defauts sem_defeito sem_defeitos
    senza_difetti sin_defecto sin_defectos
    良 良好 良品 好 合格 合格品 正常 正常品 无缺陷 無缺陷 양품 정상 годен годные норма хорошие хороший
"""

#: Names of folders and classes that say "not good" without saying how: in lower case, without accents, `_` between
#: words. `broken` and `scratch` are kinds.
NO_KIND = frozenset(_NO_KIND.split())
#: Names that say that a part is good.
GOOD = frozenset(_GOOD.split())
#: Folders of masks. A `label` that is torn is a kind.
_MASKS = frozenset({"annotations", "ground_truth", "groundtruth", "gt", "labels", "mask", "masks", "segmentation"}) | {
    *("segmentations", "segmentationclass", "segmentationobject")
}
#: Words that add nothing to either: `bad_parts`, `good_images`. A `wrong_part` is a kind.
_OF_WHAT = frozenset(
    [f"{word}{ending}" for word in ("image", "img", "item", "part", "photo", "piece") for ending in ("", "s")]
    + ["class", "classes", "product", "products", "sample", "samples", "unit", "units"]
)

# What stands before a code: `type 3`, `defect_b`.
_COUNTED = frozenset(
    {"category", "class", "code", "defect", "error", "fault", "id", "kind", "label", "no", "nr", "type"}
)


def is_good(name: str) -> bool:
    """Whether a folder or class says that parts are good (`GOOD`): the whole name, so that `GoodsAD` does not."""
    return not GOOD.isdisjoint(_plain(name))


def is_masks(name: str) -> bool:
    """Whether a folder is called as folders of masks are: `Ground-Truth`, `mask_images`."""
    return not _MASKS.isdisjoint(_plain(name))


def defect_name(name: str) -> str:
    """A kind of defect as the dataset names it, "" for names that tell none (`NO_KIND`, a letter, a number)."""
    return name if NO_KIND.isdisjoint(_plain(name)) and not is_code(name.casefold()) else ""


def is_code(name: str) -> bool:
    """Whether a name (in lower case) is a letter or a number, by itself or behind a word like `type`."""
    words = [word for one in re.findall(r"[^\W_]+", name) if (word := one.strip("0123456789"))]
    words = [word for word in words if word not in _COUNTED] if words != [name] else words
    if not any(char.isalpha() for word in words for char in word):
        return True
    # A single sign of Chinese is a word; one letter of an alphabet is a code.
    return len(words) == 1 and len(words[0]) == 1 and words[0].lower() != words[0].upper()


def labels_of(names: Iterable[str]) -> dict[str, Label]:
    """The label of each query, by the folder it lies in; nothing where no folder is called good.

    What lies deeper in a folder of good parts has no label: its own folder may be a shift, or a kind of defect.

    Args:
        names: paths below the folder of queries, with `/`: `good/1.png`, `test/scratch/2.png`.
    """
    folders = {name: PurePosixPath(name).parts[:-1] for name in names}
    if not any(is_good(folder) for parts in folders.values() for folder in parts):
        return {}
    return {
        name: (False, "") if is_good(parts[-1]) else (True, defect_name(parts[-1]))
        for name, parts in folders.items()
        if parts and (is_good(parts[-1]) or not any(map(is_good, parts)))
    }


def _plain(name: str) -> set[str]:
    """What a name is looked up as: `Non-Conforme 2` → `non_conforme`, `N.O.K.` → `n_o_k` and `nok`.

    Without case, accents, punctuation, a number behind it, and words that say of what (`_OF_WHAT`).
    """
    text = unicodedata.normalize("NFKD", name).casefold()
    text = unicodedata.normalize("NFC", "".join(one for one in text if not unicodedata.combining(one)))
    text = re.sub(r"[\W_]+", "_", text).strip("_")
    text = re.sub(r"_?[0-9]+$", "", text) or text
    said = [word for word in text.split("_") if word not in _OF_WHAT]
    text = "_".join(said) if said and said != ["wrong"] else text
    initials = all(len(part) == 1 for part in text.split("_"))
    return {text, text.replace("_", "")} if initials else {text}
