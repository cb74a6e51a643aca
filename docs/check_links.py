"""Follow every internal link of the built pages: the file must be there, and the place in it.

    python docs/check_links.py docs/_build/html

Links to other hosts are counted and left alone. Ends with status 1 if a link leads nowhere.
"""

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class Page(HTMLParser):
    """Links of a page, the places in it that can be linked to, and signs of raw markup."""

    def __init__(self, text):
        super().__init__()
        self.links, self.places, self.problems = [], set(), []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.places.update(values[key] for key in ("id", "name") if values.get(key))
        for key in ("href", "src"):
            if values.get(key) and not (tag == "link" and values.get("rel") == "canonical"):
                self.links.append(values[key])
        if "system-message" in (values.get("class") or ""):
            self.problems.append("an error message of docutils")


def check(root):
    """Problems of all pages below a folder, and the number of links to other hosts."""
    root = Path(root).resolve()
    pages = {
        path: Page(path.read_text())
        for path in sorted(root.rglob("*.html"))
        if path.relative_to(root).parts[0] != "_static"  # the theme's own templates
    }
    problems, n_followed, n_elsewhere = [], 0, 0
    for path, page in pages.items():
        where = path.relative_to(root)
        problems += [f"{where}: {problem}" for problem in page.problems]
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                n_elsewhere += parts.scheme in ("http", "https")
                continue
            target = path
            if parts.path:
                target = (path.parent / unquote(parts.path)).resolve()
                target = target / "index.html" if target.is_dir() else target
            n_followed += 1
            if not target.is_file():
                problems.append(f"{where}: {link} is no file")
            elif parts.fragment and target in pages:
                place = unquote(parts.fragment)
                if not place.startswith(":~:") and place not in pages[target].places:
                    problems.append(f"{where}: {link} is no place in that page")
    print(f"{len(pages)} pages, {n_followed} internal links followed, {n_elsewhere} to elsewhere")
    return sorted(set(problems))


if __name__ == "__main__":
    found = check(sys.argv[1])
    print("\n".join(found))
    sys.exit(bool(found))
