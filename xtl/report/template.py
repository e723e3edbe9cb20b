"""The frame of every HTML page: base.html.j2 holds the document, page.css its style, page.js its behaviour."""

from importlib import resources
from typing import Any


def render(package: str, template: str, **content: Any) -> str:
    """The page of `template`, a file of `package` that extends base.html.j2. Text is escaped unless it is Markup."""
    from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=ChoiceLoader([PackageLoader(name, ".") for name in (package, __package__)]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    folder = resources.files(__package__)
    inline = {name: Markup(folder.joinpath(f"page.{name}").read_text(encoding="utf-8")) for name in ("css", "js")}
    return environment.get_template(template).render(**content, **inline)
