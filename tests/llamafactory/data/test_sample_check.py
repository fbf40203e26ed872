"""A sample that cannot be trained on is named, before training and while it is tokenised."""

from pathlib import Path

import pytest

from adcopilot.errors import UserError
from adcopilot.llamafactory.sample_check import SampleCheck, encoder_of

from ..conftest import encode, sample

pytestmark = pytest.mark.forward


@pytest.mark.parametrize("cutoff_len", [30, 45, 60, 80])
@pytest.mark.parametrize("mask_history", [False, True])
@pytest.mark.parametrize("of_first", [True, False])
@pytest.mark.parametrize("images", [1, 2])
def test_check_and_training_agree(lf, image_files, cutoff_len, mask_history, of_first, images, monkeypatch):
    """Whatever length is cut at: what passes the check has whole images when LlamaFactory has cut it, and what does
    not is refused by the guard too."""
    encoder = lf.encoder(cutoff_len=cutoff_len, mask_history=mask_history)
    monkeypatch.setattr(lf.processor, "comparison_of_first", of_first)
    second = "And <image> this?" if images == 2 else "And this, which is not seen?"
    one = sample("<image>Look.", "Yes.", second, "No, not at all.", images=image_files[:images])
    try:
        SampleCheck(encoder=encoder).length(one)
    except UserError:
        with pytest.raises(UserError, match="does not fit cutoff_len"):
            encode(encoder, one)
    else:
        ids = encode(encoder, one)["input_ids"][0]
        compared = images - (not of_first)
        assert ids.count(lf.processor.comparison_token_id) == compared * lf.processor.num_comparison_tokens
        image_pad = lf.tokenizer.convert_tokens_to_ids("<|image_pad|>")
        assert ids.count(image_pad) == images * 6  # 84×56 pixels are 3×2 tokens


@pytest.mark.parametrize("of_first", [True, False])
def test_counted_length_is_the_tokenised_one(lf, samples, of_first, monkeypatch):
    """The check counts an image's pads instead of tokenising them."""
    monkeypatch.setattr(lf.processor, "comparison_of_first", of_first)
    check = SampleCheck(encoder=lf.encoder())
    lengths = [len(ids) for ids in encode(lf.encoder(), *samples)["input_ids"]]
    assert [check.length(one) for one in samples] == lengths


def test_a_truncated_image_is_found_while_tokenising(lf, image_files, tmp_path):
    """Its header is fine, so the check passes it; decoding it stops the run before it trains."""
    damaged = tmp_path / "damaged.png"
    data = Path(image_files[3]).read_bytes()
    damaged.write_bytes(data[: len(data) // 2])
    with pytest.raises(UserError, match=r"damaged\.png: the image is truncated or corrupt"):
        encode(lf.encoder(), sample("<image>Look.", "Yes.", images=[str(damaged)]))


def test_samples_that_llamafactorys_main_drops_stay_dropped():
    """Its main branch gives None for what it had to cut, and says so itself."""
    from adcopilot.llamafactory.data_checks import _refuse_cut_images

    assert _refuse_cut_images(lambda self, **sample: None)(None, images=["a.png"], prompt=[]) is None


def test_stock_template_is_not_checked(lf, image_files):
    """Qwen's template cuts images as it always did."""
    one = sample("<image><image>Look.", "Yes.", images=image_files[:2])
    assert len(encode(lf.encoder("qwen2_vl", cutoff_len=20), one)["input_ids"][0]) == 20


def processor_of(lf, stage, **settings):
    one = lf.encoder(**settings)
    return encoder_of(stage, one.template, one.data_args, lf.tokenizer, lf.processor)


def answers(*texts, images, question="<image><image>Is there a defect?"):
    """A sample of two answers, as pairwise and KTO sets are left by LlamaFactory's converters."""
    one = sample(question, texts[0], images=images)
    return {**one, "_response": [{"role": "assistant", "content": text} for text in texts]}


@pytest.mark.parametrize("stage", ["rm", "kto", "ppo"])
def test_other_stages_are_checked_and_guarded(lf, image_files, stage):
    """DPO and reward models (`rm`), KTO, and generation: images that the cut would reach are named, not trained on."""
    pair = answers("No.", "" if stage == "kto" else "Yes, at the left edge.", images=image_files[:2])
    check = SampleCheck(encoder=processor_of(lf, stage))
    assert check._is_kept(pair)
    assert check.length(pair) > 2 * lf.processor.num_comparison_tokens
    short = processor_of(lf, stage, cutoff_len=20)
    with pytest.raises(UserError, match="does not fit cutoff_len 20: tokens of its 2 images would be cut"):
        SampleCheck(encoder=short).length(pair)
    with pytest.raises(UserError, match="does not fit cutoff_len 20"):
        encode(short, pair)
    assert encode(processor_of(lf, stage), pair)


@pytest.mark.parametrize("stage", ["sft", "rm", "kto"])
@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ('{"bbox_2d": [0.1, 0.2, 0.3, 0.4]}', "no number above 1, .*--boxes relative"),
        ('{"bbox_2d": [0, 0, 1, 1]}', "one pixel, or the whole image"),
        ("<|box_start|>(6,4),(9,7)<|box_end|>", "1 box written as .*Qwen2-VL's.*--boxes qwen2-vl"),
        ('{"bbox": [1, 2, 3, 4]}', "COCO's .*--boxes coco"),
        ('{"point_2d": [1, 2]}', "points or an outline"),
    ],
)
def test_boxes_that_would_not_be_mapped_are_refused_in_every_stage(lf, image_files, stage, answer, says):
    texts = {"sft": [answer], "rm": ["No.", answer], "kto": ["", answer]}[stage]
    one = answers(*texts, images=image_files[:2])
    with pytest.raises(UserError, match=rf"^sample with images .*{says}"):
        SampleCheck(encoder=processor_of(lf, stage)).length(one)
    with pytest.raises(UserError, match=says):  # streamed data meets no check before
        encode(processor_of(lf, stage), one)


def test_text_alone_may_hold_any_notation(lf):
    """There is no image that it could be about: code, tables, other people's examples."""
    one = sample("What is COCO's form?", '{"bbox": [1, 2, 3, 4]}, <bbox>1 2 3 4</bbox>')
    assert encode(lf.encoder(), one)["input_ids"]
