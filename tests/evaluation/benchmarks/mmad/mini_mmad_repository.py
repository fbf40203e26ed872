"""A stand-in for a copy of MMAD's repository: its folders, files and names, with sentences of our own."""

from __future__ import annotations

from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"

GPT4V = '''
import sys
import package_that_is_nowhere

raise SystemExit("a script of the checkout was run")

api = {"api_key": "nothing"}
instruction = """
Look after our cups.
One letter will do.
"""


class GPT4Query():
    def __init__(self, image_path, text_gt, few_shot=[], visualization=True):
        self.few_shot = few_shot

    def parse_conversation(self, text_gt):
        Question = []
        Answer = []
        keyword = "conversation"
        for key in text_gt.keys():
            if key.startswith(keyword):
                conversation = text_gt[key]
                for i, QA in enumerate(conversation):
                    options_items = list(QA['Options'].items())
                    # random.shuffle(options_items)
                    options_text = ""
                    new_answer_key = None
                    for new_key, (original_key, value) in enumerate(options_items):
                        options_text += f"{chr(65 + new_key)}) {value}\\n"
                        if QA['Answer'] == original_key:
                            new_answer_key = chr(65 + new_key)
                    questions_text = QA['Question']
                    Question.append(
                        {
                            "type": "text",
                            "text": f"Riddle {i + 1}: {questions_text} \\n"
                                    f"{options_text}",
                            "options": options_items,
                        },
                    )
                    Answer.append(new_answer_key)
                break
        return Question, Answer

    def generate_answer(self):
        questions, answers = self.parse_conversation(self.text_gt)
        for i in range(len(questions)):
            payload = self.get_query(questions[:i + 1])

    def get_query(self, conversation):
        incontext = []
        if self.few_shot:
            incontext.append({"type": "text", "text": f"Here come {len(self.few_shot)} good cups."})
        for ref_image_path in self.few_shot:
            ref_image = cv2.imread(ref_image_path)
            if self.visualization:
                self.visualize_image(ref_image)
            ref_base64_image = self.encode_image_to_base64(ref_image)
            incontext.append({
                "type": "image_url",
                "image_url": {"url": f"data:image/jpeg;base64,{ref_base64_image}", "detail": "low"}
            })
        image = cv2.imread(self.image_path)
        base64_image = self.encode_image_to_base64(image)
        payload = {
            "model": "some",
            "messages": [
                {"role": "system", "content": [{"type": "text", "text": instruction}]},
                {"role": "user", "content": incontext + [
                    {"type": "text", "text": f"The cup to look at: "},
                    {"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{base64_image}"}},
                    {"type": "text", "text": f"Our riddles: "},
                ] + conversation}
            ],
            "max_tokens": 600,
        }
        return payload
'''

QWEN25 = """
import torch
from transformers import Qwen2_5_VLForConditionalGeneration, AutoProcessor

sys.path.append("..")
from helper.summary import caculate_accuracy_mmad
from GPT4V.gpt4v import GPT4Query, instruction


class QwenQuery(GPT4Query):
    def __init__(self, image_path, text_gt, processor, model, few_shot=[], domain_knowledge=None, args=None):
        super(QwenQuery, self).__init__(image_path, text_gt, few_shot, False)
        self.domain_knowledge = domain_knowledge

    def generate_answer(self):
        questions, answers = self.parse_conversation(self.text_gt, add_question_id=False)
        text = self.processor.apply_chat_template(messages, tokenize=False, add_vision_id=True)

    def get_query(self, conversation):
        incontext = []
        if self.domain_knowledge:
            incontext.append({
                "type": "text",
                "text": f"What we know of cups: \\n {self.domain_knowledge}"
            })
        if self.few_shot:
            incontext.append({
                "type": "text",
                "text": f"Good cups, {len(self.few_shot)} of them."
            })
        for ref_image_path in self.few_shot:
            ref_image = cv2.imread(ref_image_path)
            if self.visualization:
                self.visualize_image(ref_image)
            incontext.append({"type": "image", "image": ref_image_path})
        image = cv2.imread(self.image_path)
        if self.visualization:
            print(conversation)
        payload = [
            {"type": "text", "text": instruction},
        ] + [
            {"type": "text", "text": f"A letter, please! "}
        ] + incontext + [
            {"type": "text", "text": f"The cup in question: "},
            {"type": "image", "image": self.image_path},
            {"type": "text", "text": f"What we ask: "}
        ] + conversation
        return payload


if __name__ == "__main__":
    torch.manual_seed(1234)
"""

INTERNVL = """
from GPT4.gpt4v import GPT4Query, instruction


class InternVLQuery(GPT4Query):
    def get_query(self, conversation):
        incontext = ''
        if self.domain_knowledge:
            incontext = incontext + f"Known of cups: \\n {self.domain_knowledge}"
        if self.few_shot:
            incontext = incontext + f"So many good cups: {len(self.few_shot)}."
            for ref_image_path in self.few_shot:
                incontext = incontext + '\\n' + \'\'\' <image>\\n\'\'\'
        if self.defect_shot:
            incontext = incontext + f"Broken: {len(self.defect_shot)}."
        payload = (instruction + incontext + '\\n' +
                   f"This cup: " + '\\n' + f"<image> ")
        if self.agent:
            if self.args.agent_notation == "bbox":
                payload = payload + f"Marked: <image>"
        payload = payload + '\\n' + f"Say which letter: " + '\\n'
        conversation_text = ''
        for q in conversation:
            conversation_text += f"{q['text']}" + '\\n'
        return payload, conversation_text
"""

MINICPM = """
from GPT4.gpt4v import GPT4Query, instruction


class MiniCPMQuery(GPT4Query):
    def get_query(self, conversation):
        incontext = ''
        if self.few_shot:
            if len(self.few_shot) == 1:
                incontext = incontext + f"Cup 1 is good."
            else:
                incontext = incontext + f"Cups 1-{len(self.few_shot)} are good."
        payload = instruction + incontext + '\\n' + \\
                  f"The last cup is asked about: " + '\\n'
        conversation_text = ''
        for q in conversation:
            conversation_text += f"{q['text']}" + '\\n'
        return payload, conversation_text
"""

GPT4O = '''
instruction = """
Cups again.
1. Answer: B.
"""


def get_mime_type(ref_image_path):
    return "image/png"


class GPT4Query():
    def parse_conversation(self, text_gt):
        Question = []
        for key in text_gt.keys():
            if key.startswith("conversation"):
                for i, QA in enumerate(text_gt[key]):
                    options_items = list(QA['Options'].items())
                    options_text = ""
                    for j, (key, value) in enumerate(options_items):
                        options_text += f"{key}. {value}\\n"
                    questions_text = QA['Question']
                    Question.append({"type": "text", "text": f"Riddle: {questions_text} \\n" f"{options_text}"})
        return Question, []

    def get_query(self, conversation):
        incontext = ""
        if self.few_shot:
            incontext = f"The first {len(self.few_shot)} are good."
        incontext_image = []
        for ref_image_path in self.few_shot:
            ref_image = cv2.imread(ref_image_path)
            ref_base64_image = self.encode_image_to_base64(ref_image)
            incontext_image.append({"type": "image_url", "image_url": {
                "url": f"data:{get_mime_type(ref_image_path)};base64,{ref_base64_image}", "detail": "low"}})
        conversation_text = ''
        for q in conversation:
            conversation_text += f"{q['text']}" + '\\n'
        image = cv2.imread(self.image_path)
        base64_image = self.encode_image_to_base64(image)
        return {"messages": [{"role": "user", "content": incontext_image + [
            {"type": "image_url", "image_url": {
                "url": f"data:{get_mime_type(self.image_path)};base64,{base64_image}"}},
            {"type": "text",
             "text": instruction + incontext + f"The last is asked about" + '\\n' + conversation_text},
        ]}]}
'''

GEMINI = (
    GPT4O.replace("class GPT4Query", "class GeminiQuery")
    .replace(
        '{"messages": [{"role": "user", "content": incontext_image + [',
        '{"parts": incontext_image + [',
    )
    .replace("        ]}]}", "        ]}")
)

SCRIPTS = {
    "GPT4/gpt4v.py": GPT4V,
    "GPT4/gpt4o.py": GPT4O,
    "Gemini/gemini_query.py": GEMINI,
    "Transformers/qwen2_5_vl_query.py": QWEN25,
    "Transformers/internvl_query.py": INTERNVL,
    "Transformers/minicpm_query.py": MINICPM,
}


def build(root: Path, *, folder: str = "evaluation/examples", git: bool = True) -> Path:
    """Write the stand-in below `root` and return it."""
    for name, text in SCRIPTS.items():
        path = root / folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    (root / "README.md").write_text("cups\n")
    if git:
        (root / ".git/refs/heads").mkdir(parents=True)
        (root / ".git/HEAD").write_text("ref: refs/heads/main\n")
        (root / ".git/refs/heads/main").write_text(f"{COMMIT}\n")
    return root
