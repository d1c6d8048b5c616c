"""
Check the built documentation: ``python tools/check_site.py docs/_build/html``.

A page must need nothing from the web (scripts, styles, fonts, pictures), and links within the site must lead to a file
and, where they name one, a place on its page. Links to other sites are not followed.
"""

import argparse
import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

# Attributes that make a browser load something; of <link> only those that do.
LOADED = {"audio": "src", "iframe": "src", "img": "src", "script": "src", "source": "src", "video": "src"}
LOADED_LINKS = {"stylesheet", "preload", "modulepreload", "icon"}


class Page(HTMLParser):
    """What a page loads, where its links lead, and the places that links can lead to."""

    def __init__(self, path):
        super().__init__()
        self.loaded, self.links, self.places = [], [], {""}
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        """Note one tag."""
        attributes = dict(attributes)
        self.places.update(attributes[key] for key in ("id", "name") if attributes.get(key))
        if LOADED.get(tag) in attributes:
            self.loaded.append(attributes[LOADED[tag]])
        elif tag == "link" and LOADED_LINKS & set(attributes.get("rel", "").split()):
            self.loaded.append(attributes["href"])
        elif tag == "a" and "href" in attributes:
            self.links.append(attributes["href"])


def faults(root):
    """Yield a line for each fault of the site."""
    pages = {path: Page(path) for path in sorted(root.rglob("*.html")) if "_static" not in path.parts}
    if not pages:
        yield f"no page in {root}"
    for path, page in pages.items():
        where = path.relative_to(root)
        for address in page.loaded:
            if urlsplit(address).netloc:
                yield f"{where} loads {address}"
        for address in {*page.loaded, *page.links}:
            parts = urlsplit(address)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not target.is_file():
                yield f"{where} leads to {address}, which is not there"
            elif target in pages and unquote(parts.fragment) not in pages[target].places:
                yield f"{where} leads to {address}: the page has no such place"
    for path in root.rglob("*.css"):
        for address in re.findall(r"url\(\s*[\"']?((?:https?:)?//[^)\"']+)", path.read_text(encoding="utf-8")):
            yield f"{path.relative_to(root)} loads {address}"


def main():
    """Print the faults; the exit status is 1 if there are any."""
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument("site", type=Path, help="folder of the built pages")
    found = list(faults(parser.parse_args().site.resolve()))
    print("\n".join(found) or "the site is whole, and needs nothing from the web")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
