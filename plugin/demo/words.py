"""The page's words, in English and Chinese.

The English words are the key. Gradio's own components follow the browser's language, or the one chosen in gradio's
settings; it names that language at the page's root (`html[lang]`), and the page's HTML, which has both, shows the one
of the two by its style. What the package itself says about a file or an option stays English.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gradio.i18n import I18n, I18nData

__all__ = ["CHINESE", "bilingual", "label", "languages"]

#: Chinese by English. A `{name}` is filled in and stands in both; there is no HTML but `<b>`.
CHINESE = {
    # above the tabs
    "Compare a part with a good one": "将零件与良品对比",
    "The model looks at both pictures and says whether the part is defective, and where. It can be wrong.": (
        "模型查看两张图片，判断零件是否有缺陷以及缺陷在哪里。它可能出错。"
    ),
    "The anomaly map of both pictures says whether the part is defective, and where. It can be wrong.": (
        "由两张图片的异常图判断零件是否有缺陷以及缺陷在哪里。它可能出错。"
    ),
    "This line has good parts of its own: bring the part alone, or both.": (
        "该产线自带良品：只添加零件即可，也可两者都添加。"
    ),
    "Model": "模型",
    "Without a model": "不使用模型",
    "the anomaly map": "异常图",
    "{number} million parameters": "{number} 百万参数",
    "a toy: it shows how the page works, its answers mean little": "玩具模型：只用来演示本页，其回答意义不大",
    "One part": "单个零件",
    "Many parts": "多个零件",
    # what is asked, and with what
    "Good part": "良品",
    "Part to inspect": "待检零件",
    "More pictures of good parts (optional)": "更多良品图片（可选）",
    "Up to 8 pictures": "最多 8 张图片",
    "Or try an example": "或试用示例",
    "Circuit board: hole": "电路板：孔洞",
    "Gear: stain": "齿轮：污渍",
    "Bracket: extra part": "支架：多余零件",
    "Washer: no defect": "垫圈：无缺陷",
    "More questions": "更多问题",
    "Is it defective?": "有缺陷吗？",
    "Where are the defects?": "缺陷在哪里？",
    "What kind of defect?": "是什么缺陷？",
    "Describe the difference": "描述差异",
    "Possible cause": "可能的原因",
    "What product is it?": "这是什么产品？",
    "Read the writing": "读取文字",
    "Your own question (goes on with the conversation)": "自己的问题（接着当前对话）",
    "For example: What is it?": "例如：这是什么？",
    "Ask": "提问",
    "Start again": "重新开始",
    "Earlier answers": "以前的回答",
    "Forget them": "清除记录",
    # verdicts and what stands beside them
    "The verdict comes here. Add a good part and a part to inspect, then ask.": (
        "判定结果显示在这里。请添加良品和待检零件，然后提问。"
    ),
    "The verdict comes here. Add a part to inspect, then ask.": "判定结果显示在这里。请添加待检零件，然后提问。",
    "Looking at the pictures": "正在查看图片",
    "Place in the queue": "排队位置",
    "Defect found": "发现缺陷",
    "No defect found": "未发现缺陷",
    "Undecided": "无法判定",
    "Answer": "回答",
    "Score": "分数",
    "Map's score": "异常图分数",
    "About {query}.": "关于 {query}。",
    "About {query}, compared with {good}.": "关于 {query}，对比 {good}。",
    "No verdict: {reason}. Look at the part yourself.": "没有判定：{reason}。请自己查看零件。",
    "No verdict: {reason}.": "没有判定：{reason}。",
    "0 is no difference from the good part. From {threshold} on a part counts as defective.": (
        "0 表示与良品没有差异。从 {threshold} 起算作有缺陷。"
    ),
    "0 is like the good part, 1 is surely defective. From {threshold} on a part counts as defective.": (
        "0 表示与良品相同，1 表示肯定有缺陷。从 {threshold} 起算作有缺陷。"
    ),
    "So does a map's score from {threshold} on ({score}).": "异常图分数从 {threshold} 起也算（{score}）。",
    "No score: the model reasoned first. The verdict is the first word of the answer.": (
        "没有分数：模型先做了推理。判定取自回答的第一个词。"
    ),
    "No score: the model's server told no usable probabilities. The verdict is the first word of the answer.": (
        "没有分数：模型服务器没有给出可用的概率。判定取自回答的第一个词。"
    ),
    "Model and map disagree. Look at the part yourself.": "模型与异常图结论不一致。请自己查看零件。",
    "The model's own words say the opposite of this verdict. Look at the part yourself.": (
        "模型的回答与该判定相反。请自己查看零件。"
    ),
    "The model marks places although no defect was found. Look at the part yourself.": (
        "未发现缺陷，但模型标出了位置。请自己查看零件。"
    ),
    "The threshold {threshold} is from the good parts that were brought: {chosen}.": (
        "阈值 {threshold} 由所添加的良品得出：{chosen}。"
    ),
    "Take care: {warning}.": "注意：{warning}。",
    "No threshold is known. Add more pictures of good parts, five or more are best: one is found from two on.": (
        "没有已知的阈值。请添加更多良品图片，最好五张以上：从两张起即可得出阈值。"
    ),
    "In pixels from the left and from the top. A number enlarges its place.": (
        "单位为像素，从左边和上边算起。点击编号可放大该位置。"
    ),
    "from {place}": "从 {place}",
    "to {place}": "到 {place}",
    "defect": "缺陷",
    "difference": "差异",
    # pictures of results
    "Compared with": "对比用的良品",
    "Marked places": "标出的位置",
    "Where it differs": "差异所在",
    "Where the model compared": "模型比较的位置",
    "Zoom all pictures": "放大所有图片",
    "Yellow is the threshold {threshold}, red twice as much, in every picture.": (
        "黄色为阈值 {threshold}，红色为其两倍，所有图片相同。"
    ),
    "No threshold is known: yellow is a difference of {middle}, red {top}, in every picture.": (
        "没有已知的阈值：黄色表示差异 {middle}，红色 {top}，所有图片相同。"
    ),
    "No map: no good part to compare with.": "没有异常图：没有可对比的良品。",
    "No map: it needs a good part of the same shape and view.": "没有异常图：需要形状和视角相同的良品。",
    "Where it looked, not where a defect is: yellow is {middle} times an even share of "
    "its attention, red {top} times, "
    "in every picture. Here at most {most} times.": (
        "表示模型看了哪里，而不是缺陷在哪里：黄色为平均注意力的 {middle} 倍，红色 {top} 倍，"
        "所有图片相同。此处最高 {most} 倍。"
    ),
    "You": "您",
    "How the model came to this (its reasoning)": "模型的推理过程",
    "(The model said nothing.)": "（模型没有回答。）",
    "No place differs.": "没有差异。",
    "One place differs.": "1 处有差异。",
    "{number} places differ.": "{number} 处有差异。",
    "No marked places.": "没有标出位置。",
    "One marked place.": "标出 1 处。",
    "{number} marked places.": "标出 {number} 处。",
    "Nothing yet. Answers are kept in this browser only, not on the server.": (
        "还没有。回答只保存在此浏览器中，不保存在服务器上。"
    ),
    # files to save
    "Save as JSON": "保存为 JSON",
    "Save as picture (PNG)": "保存为图片 (PNG)",
    "Save the table (CSV)": "保存表格 (CSV)",
    "Save the marked pictures (ZIP)": "保存标记图片 (ZIP)",
    # many parts
    "Add pictures of good parts and pictures to inspect. Each part is compared with the good part that looks most "
    "alike; one of the same file name comes first if it is of the same shape and looks alike too. Up to {files} "
    "pictures, {size} MB each.": (
        "请添加良品图片和待检图片。每个零件与最相似的良品对比；文件名相同且形状、外观相近的良品优先。"
        "最多 {files} 张图片，每张 {size} MB。"
    ),
    "Good parts: pictures or a zip": "良品：图片或 zip",
    "Parts to inspect: pictures or a zip": "待检零件：图片或 zip",
    "Take a whole folder instead": "改为选择整个文件夹",
    "Folder of parts to inspect": "待检零件的文件夹",
    "Inspect all": "全部检查",
    "Inspect the server's folder": "检查服务器的文件夹",
    "Stop": "停止",
    "{done} of {total} pictures inspected.": "已检查 {done}/{total} 张图片。",
    "Getting ready.": "正在准备。",
    "Done.": "完成。",
    "Stopped.": "已停止。",
    "It ended early: {reason}.": "提前结束：{reason}。",
    "{number} of them could not be inspected; they stand at the end of the table.": (
        "其中 {number} 张无法检查，列在表格末尾。"
    ),
    "{number} of the pictures of good parts could not be used.": "{number} 张良品图片无法使用。",
    "There was no room for the pictures of {number} parts.": "{number} 个零件的图片没有存储空间。",
    "All": "全部",
    "Not inspected": "未检查",
    "Part and good part": "零件与良品",
    "File": "文件",
    "Verdict": "判定",
    "Places": "位置",
    "Could not be inspected: {reason}": "无法检查：{reason}",
    "The first {shown} of {total}; the file has all.": "显示前 {shown} 个，共 {total} 个；文件中有全部。",
    "Close": "关闭",
    "Before": "上一个",
    "Next": "下一个",
    # marks
    "Was the verdict wrong? Kind of defect (may be empty)": "判定有误？缺陷种类（可不填）",
    "Kind of defect (may be empty)": "缺陷种类（可不填）",
    "Was a verdict wrong? Choose the part and mark it": "判定有误？请选择零件并标记",
    "scratch": "划痕",
    "Mark as defective": "标为有缺陷",
    "Mark as good": "标为良品",
    "{name} is marked as good. The last mark of a picture counts.": ("{name} 已标为良品。以图片的最后一次标记为准。"),
    "{name} is marked as defective. The last mark of a picture counts.": (
        "{name} 已标为有缺陷。以图片的最后一次标记为准。"
    ),
    "{name} is marked as defective: {kind}. The last mark of a picture counts.": (
        "{name} 已标为有缺陷：{kind}。以图片的最后一次标记为准。"
    ),
    # what a visitor is told that went wrong
    "Add a picture of a good part first: it is what the part is compared with.": (
        "请先添加良品图片：零件要与它对比。"
    ),
    "Add a picture of the part to inspect first.": "请先添加待检零件的图片。",
    "Write a question first, or use one of the buttons.": "请先写下问题，或使用其中一个按钮。",
    "Add pictures of good parts first.": "请先添加良品图片。",
    "Add pictures of parts to inspect first.": "请先添加待检零件的图片。",
    "Ask about the part first, then mark it.": "请先提问，再标记该零件。",
    "Choose a part of the table first.": "请先在表格中选择一个零件。",
    "This page keeps no marks.": "本页不保存标记。",
    "This page has no folder of its own.": "本页没有自己的文件夹。",
    "Something went wrong on the server; it has been written down there. Try again.": ("服务器出错，已记录。请重试。"),
    "something went wrong on the server; it has been written down there": "服务器出错，已记录",
    "The mark could not be kept on the server; it has been written down there why.": (
        "服务器无法保存标记，原因已记录。"
    ),
    "The model's server does not answer just now. Please try again in a minute.": (
        "模型服务器暂时没有响应。请稍后再试。"
    ),
    "A picture is no longer here (it may have been too long ago). Please add it again.": (
        "图片已不在这里（可能时间过长）。请重新添加。"
    ),
    "An answer about {names} came when other pictures were here, so it is not shown. Ask again.": (
        "关于 {names} 的回答到达时图片已更换，因此未显示。请重新提问。"
    ),
}


def languages() -> I18n:
    """For `launch`. Gradio looks a key up under its own names of languages, of which two are Chinese."""
    from gradio.i18n import I18n

    return I18n(**{"en": {one: one for one in CHINESE}, "zh-CN": CHINESE, "zh-TW": CHINESE})


def label(english: str) -> I18nData:
    """Words of a gradio component, which chooses among the languages itself.

    Raises:
        KeyError: the words have no Chinese.
    """
    from gradio.i18n import I18nData

    CHINESE[english]
    return I18nData(english)


def bilingual(english: str, **values: object) -> str:
    """Words in HTML, in both languages.

    Args:
        values: what stands for `{name}`; HTML already.

    Raises:
        KeyError: the words have no Chinese.
    """
    return (
        f'<span class="adc-en">{english.format(**values)}</span>'
        f'<span class="adc-zh" lang="zh-CN">{CHINESE[english].format(**values)}</span>'
    )
