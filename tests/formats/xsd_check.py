"""Validates XML against the plain part of XSD that ``junit-10.xsd`` uses, read from that file.

Elements by reference, attributes with ``use`` and a pattern, mixed or empty content, sequences and choices as
sets of children with their limits at the top of a sequence. An XSD processor would be one more dependency.
"""

import re
from pathlib import Path
from xml.etree import ElementTree as ET

XS = "{http://www.w3.org/2001/XMLSchema}"


class Schema:
    def __init__(self, path: Path) -> None:
        root = ET.parse(path).getroot()
        self._patterns = {
            str(kind.get("name")): str(pattern.get("value"))
            for kind in root.iterfind(f"{XS}simpleType")
            for pattern in kind.iter(f"{XS}pattern")
        }
        self._elements = {str(element.get("name")): element for element in root.iterfind(f"{XS}element")}

    def problems(self, element: ET.Element) -> list[str]:
        """Say all that is wrong with an element and what is in it."""
        declared = self._elements.get(element.tag)
        if declared is None:
            return [f"<{element.tag}> is not known"]
        kind = declared.find(f"{XS}complexType")
        if kind is None:  # a plain text
            return [f"<{element.tag}> has children"] if len(element) or element.attrib else []
        found = [*self._attributes(element, kind), *self._content(element, kind)]
        for child in element:
            found += self.problems(child)
        return found

    def _attributes(self, element: ET.Element, kind: ET.Element) -> list[str]:
        known = {str(entry.get("name")): entry for entry in kind.iterfind(f"{XS}attribute")}
        found = [f"{element.tag}/@{name} is not known" for name in element.attrib.keys() - known.keys()]
        for name, entry in known.items():
            value, pattern = element.get(name), self._patterns.get(str(entry.get("type")))
            if value is None and entry.get("use") == "required":
                found.append(f"{element.tag}/@{name} is missing")
            if value is not None and pattern is not None and not re.fullmatch(pattern, value):
                found.append(f"{element.tag}/@{name} is {value!r}")
        return found

    def _content(self, element: ET.Element, kind: ET.Element) -> list[str]:
        allowed = {entry.get("ref") for entry in kind.iter(f"{XS}element")}
        found = [f"<{child.tag}> in <{element.tag}>" for child in element if child.tag not in allowed]
        texts = [element.text, *(child.tail for child in element)]
        if kind.get("mixed") != "true" and any(text and text.strip() for text in texts):
            found.append(f"text in <{element.tag}>")
        return found
