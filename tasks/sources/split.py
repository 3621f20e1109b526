"""GGUF files in parts, NAME-00001-of-00003.gguf and its siblings, as large ones are published."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from tasks.errors import ModelError
from tasks.sources import gguf

PART = re.compile(r"(?P<name>.*)-(?P<number>\d{5})-of-(?P<count>\d{5})(?P<ending>\.gguf)", re.IGNORECASE)


def parts(file: Path) -> tuple[Path, ...]:
    """All parts of the model that `file` is a part of, in order; itself alone where it is whole.

    Raises ModelError naming the parts that are not there.
    """
    fields = gguf.read(file).fields
    count = int(fields["split.count"].contents()) if "split.count" in fields else 1
    if count < 2:
        return (file,)
    found = PART.fullmatch(file.name)
    if found is None or int(found["count"]) != count:
        number = int(fields["split.no"].contents()) + 1 if "split.no" in fields else "one"
        raise ModelError(
            f"{file.name} is part {number} of {count}, and was renamed; name the parts NAME-00001-of-{count:05}.gguf "
            f"to NAME-{count:05}-of-{count:05}.gguf, so that the others are found"
        )
    named = [file.with_name(f"{found['name']}-{n:05}-of-{count:05}{found['ending']}") for n in range(1, count + 1)]
    absent = [part.name for part in named if not part.is_file()]
    if absent:
        raise ModelError(
            f"{file.name} is one of {count} parts; not there: {', '.join(absent)}. Fetch them into {file.parent}"
        )
    return tuple(named)


def join(files: tuple[Path, ...], out: Path) -> None:
    """Write the parts as one file; raises ModelError where tensors are missing."""
    import gguf as library

    readers = [gguf.read(file) for file in files]
    first = readers[0]
    writer: Any = library.GGUFWriter(out, first.fields["general.architecture"].contents())
    for field in first.fields.values():
        if field.name.startswith(("GGUF.", "split.")) or field.name == "general.architecture":
            continue
        kind = field.types[0]
        inner = field.types[-1] if kind == library.GGUFValueType.ARRAY else None
        writer.add_key_value(field.name, field.contents(), kind, sub_type=inner)
    tensors = [tensor for reader in readers for tensor in reader.tensors]
    expected = first.fields.get("split.tensors.count")
    if expected is not None and int(expected.contents()) != len(tensors):
        raise ModelError(
            f"{files[0].name} and its siblings hold {len(tensors)} tensors, {int(expected.contents())} belong to it; "
            "fetch the parts again, all of one version"
        )
    for tensor in tensors:
        writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
