from setuptools import setup

setup(
    name="adcopilot",
    version="0.1.0",
    package_dir={"adcopilot": "plugin", "adcopilot.evaluation": "evaluation"},
    packages=["adcopilot", "adcopilot.model", "adcopilot.llamafactory", "adcopilot.sample", "adcopilot.inspect", "adcopilot.chat_ad", "adcopilot.evaluation"],
)
