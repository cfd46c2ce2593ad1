"""What an HTML page is made of, for those who don't see it."""

from __future__ import annotations

import re
from html.parser import HTMLParser


class Outline(HTMLParser):
    """Headings, ids, links and table heads of a page, and what it would load from elsewhere."""

    def __init__(self, page):
        super().__init__()
        self.levels, self.ids, self.targets, self.scopeless, self.outside = [], [], [], 0, []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        if re.fullmatch(r"h[1-6]", tag):
            self.levels.append(int(tag[1]))
        if "id" in values:
            self.ids.append(values["id"])
        if values.get("href", "").startswith("#"):
            self.targets.append(values["href"][1:])
        self.targets += values.get("aria-labelledby", "").split()
        self.scopeless += tag == "th" and "scope" not in values
        if tag in {"script", "link", "img", "iframe"}:
            self.outside.append(tag)
