"""Print the package's copyright file: ``copyright.py LICENSE SITE_PACKAGES``.

The package contains other projects' distributions. Each of them is named with its version, its home page, its
license and the texts that it carries, in Debian's machine-readable format (DEP-5). A distribution without a
license, or without a text, is an error: the package must not be built with it.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Iterator
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Final

FORMAT: Final = "https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/"
OURS: Final = "epaird"
LINKED: Final = {"uvloop": ["libuv (MIT)"]}
"""What a compiled module contains besides its own project and says nowhere that a program can read."""

_TEXT: Final = re.compile(r"licen[cs]e|copying|notice|authors", re.IGNORECASE)
_CLASSIFIER: Final = "License :: OSI Approved :: "
_HOME: Final = re.compile(r"(home *page|repository|source(?: code)?|github), *(\S+)", re.IGNORECASE)


def main() -> str:
    """Return the file's text for the command line's arguments."""
    _, license_file, packages = sys.argv
    return document(Path(license_file).read_text(), distributions(path=[packages]))


def document(ours: str, bundled: Iterable[Distribution]) -> str:
    """Return the file: the header, our license, and a paragraph for each distribution, sorted by name.

    Raises SystemExit, naming the distribution, if one has no license or no text.
    """
    others = sorted((each for each in bundled if each.name != OURS), key=lambda each: each.name.lower())
    header = f"Format: {FORMAT}\nUpstream-Name: {OURS}\n"
    main_paragraph = f"Files: *\nCopyright: the epaird authors\nLicense: BSD-2-Clause\n{_folded(ours)}"
    return "\n".join([header, main_paragraph, *map(paragraph, others)])


def paragraph(each: Distribution) -> str:
    """Return the paragraph of a bundled distribution."""
    top = sorted({file.parts[0] for file in each.files or () if file.parts[0] not in {"..", "__pycache__"}})
    files = " ".join(f"usr/lib/epaird/lib/python3*/site-packages/{name}*" for name in top)
    texts = [path.read_text(errors="replace") for path in _texts(each)]
    if not texts:
        sys.exit(f"{each.name} {each.version}: has no license text, so it cannot be part of the package")
    copyrights = list(dict.fromkeys(line for text in texts for line in _copyrights(text)))
    comment = f"{each.name} {each.version}" + "".join(f", {home}" for home in _home(each))
    if contained := LINKED.get(each.name, []) + list(_crates(each)):
        comment += "\n Its compiled modules contain " + ",\n  ".join(contained)
    holders = "\n ".join(copyrights) or f"the authors of {each.name}"
    terms = license_of(each) + "\n" + _folded("\n".join(texts))
    return f"Files: {files}\nCopyright: {holders}\nComment: {comment}\nLicense: {terms}"


def license_of(each: Distribution) -> str:
    """Return a distribution's license as its metadata states it, preferably as an SPDX expression."""
    for name in ("License-Expression", "License"):
        for stated in each.metadata.get_all(name) or ():
            if "\n" not in stated:  # some have the whole text there
                return _short(stated)
    found = [line.removeprefix(_CLASSIFIER) for line in each.metadata.get_all("Classifier") or ()
             if line.startswith(_CLASSIFIER)]  # fmt: skip
    if not found:
        sys.exit(f"{each.name} {each.version}: states no license, so it cannot be part of the package")
    return " or ".join(map(_short, found))


def _short(name: str) -> str:
    """Return a license's name as the format has it: ``MIT`` for ``MIT License``."""
    return name.removesuffix(" License")


def _texts(each: Distribution) -> list[Path]:
    """Return the license files in a distribution's metadata directory."""
    paths = [file for file in each.files or () if ".dist-info" in file.parts[0] and _TEXT.search(file.name)]
    return [Path(str(each.locate_file(path))) for path in sorted(paths)]


def _copyrights(text: str) -> Iterator[str]:
    """Yield a text's lines that state who has the copyright."""
    for line in text.splitlines():
        if re.match(r"\W*copyright\W+(\(c\)|©|\d{4})", line, re.IGNORECASE):
            yield line.strip(" *#")


def _crates(each: Distribution) -> Iterator[str]:
    """Yield the libraries that a distribution's bills of materials (CycloneDX) list."""
    for file in each.files or ():
        if file.name.endswith(".cyclonedx.json"):
            listed = json.loads(file.read_text()).get("components", ())
            yield from sorted(f"{part['name']} {part['version']} ({_terms(part)})" for part in listed)


def _terms(part: dict[str, list[dict[str, str]]]) -> str:
    """Return the license of a component in a bill of materials."""
    licenses = part.get("licenses", ())
    return " and ".join(str(each.get("expression") or each.get("license")) for each in licenses) or "unstated"


def _home(each: Distribution) -> list[str]:
    """Return a distribution's home page, if its metadata names one."""
    urls = each.metadata.get_all("Project-URL") or ()
    found = [match[2] for match in map(_HOME.fullmatch, urls) if match]
    return [*(each.metadata.get_all("Home-page") or ()), *found][:1]


def _folded(text: str) -> str:
    """Return a text as the continuation of a field: indented, empty lines as a dot."""
    return "".join(f" {line}\n" if line.strip() else " .\n" for line in text.strip().splitlines())


if __name__ == "__main__":
    sys.stdout.write(main())
