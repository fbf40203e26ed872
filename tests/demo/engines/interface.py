"""What the page expects of an engine (`service.Engine`), of the real ones and of the tests' own."""

import inspect

from adcopilot.demo.service import Engine


def lacks(engine) -> list[str]:
    """What an engine has not of it: attributes, methods, and parameters by name and order."""
    methods = {name: one for name, one in vars(Engine).items() if inspect.isfunction(one) and name[0] != "_"}
    missing = [name for name in (*Engine.__annotations__, *methods) if not hasattr(engine, name)]
    for name in methods.keys() - set(missing):
        wanted = list(inspect.signature(methods[name]).parameters)[1:]
        if list(inspect.signature(getattr(engine, name)).parameters) != wanted:
            missing.append(f"{name}({', '.join(wanted)})")
    return missing
