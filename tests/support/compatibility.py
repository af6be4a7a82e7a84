"""Whether everybody who builds on an event's JSON Schema can live with its next version.

Two kinds of readers do: agency systems, which count on what events carry, and our own services, which must read the
records of five years. So nothing may be taken away, and nothing may be demanded that old records do not have.
"""

from typing import Any

Schema = dict[str, Any]

_LOWER, _UPPER = ("minimum", "exclusiveMinimum", "minLength", "minItems"), ("maximum", "maxLength", "maxItems")
_EXACT = ("pattern", "format")


def incompatibilities(old: Schema, new: Schema) -> list[str]:
    """What breaks a reader of ``old``, each as a sentence; empty if nothing does."""
    return list(_Comparison(old, new).of("event", old, new))


class _Comparison:
    def __init__(self, old: Schema, new: Schema) -> None:
        self._old, self._new = old.get("$defs", {}), new.get("$defs", {})

    def of(self, path: str, old: Schema, new: Schema) -> list[str]:
        before, after = _variants(old, self._old), _variants(new, self._new)
        faults = [f"{path} can no longer be {kind}" for kind in before.keys() - after.keys()]
        faults += [
            f"{path} can now be {kind}, which its readers do not expect" for kind in after.keys() - before.keys()
        ]
        for kind in sorted(before.keys() & after.keys()):
            faults += self._same_kind(path, before[kind], after[kind])
        return faults

    def _same_kind(self, path: str, old: Schema, new: Schema) -> list[str]:
        faults: list[str] = []
        known, values = _values(old), _values(new)
        faults += [f"{path} no longer takes {value}" for value in sorted(known - values)]
        faults += [f"{path} can now be {value}, unknown to its readers" for value in sorted(values - known)]
        for bound in (*_LOWER, *_UPPER):
            limit = new.get(bound)
            narrower = min if bound in _LOWER else max
            if limit is not None and (bound not in old or narrower(limit, old[bound]) != limit):
                faults.append(f"{path} has a narrower {bound}")
        faults += [f"{path} has another {rule}" for rule in _EXACT if rule in new and new[rule] != old.get(rule)]
        if "items" in new:
            faults += self.of(f"{path}[]", old.get("items", {}), new["items"])
        return faults + self._fields(path, old, new)

    def _fields(self, path: str, old: Schema, new: Schema) -> list[str]:
        before, after = old.get("properties", {}), new.get("properties", {})
        needed, promised = set(new.get("required", ())), set(old.get("required", ()))
        faults = [f"{path}.{name} is gone" for name in before.keys() - after.keys()]
        faults += [f"{path}.{name} is demanded, but old records lack it" for name in needed - promised]
        faults += [f"{path}.{name} is no longer promised" for name in (promised - needed) & after.keys()]
        for name in sorted(before.keys() & after.keys()):
            faults += self.of(f"{path}.{name}", before[name], after[name])
        return faults


def _variants(schema: Schema, definitions: Schema) -> dict[str, Schema]:
    """The JSON types that a value may have, with what is said of each."""
    if "$ref" in schema:
        return _variants(definitions[schema["$ref"].removeprefix("#/$defs/")], definitions)
    if "anyOf" in schema:
        return {kind: part for option in schema["anyOf"] for kind, part in _variants(option, definitions).items()}
    return {schema.get("type", "anything"): schema}


def _values(schema: Schema) -> set[str]:
    """The only values that are taken, if they are counted out."""
    if "const" in schema:
        return {str(schema["const"])}
    return {str(value) for value in schema["enum"]} if "enum" in schema else {"any other value"}
