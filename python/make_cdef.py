#!/usr/bin/env python3
"""Writes tandem/_cdef.py from include/tandem.h: the declarations as cffi reads them. --check: they are up to date."""
import pathlib
import re
import sys

HERE = pathlib.Path(__file__).resolve().parent
HEADER = HERE.parent / "include" / "tandem.h"
OUT = HERE / "tandem" / "_cdef.py"


def declarations(header):
    text = re.sub(r"/\*.*?\*/", "", header, flags=re.S)
    text = re.sub(r'^#ifdef __cplusplus\n.*?^#endif\n', "", text, flags=re.S | re.M)
    numbers = re.findall(r"^#define (TANDEM_\w+)\s+(\d+)u?\s*$", text, flags=re.M)
    text = re.sub(r"^\s*#.*\n", "", text, flags=re.M).replace("TANDEM_API ", "")
    lines = [line.rstrip() for line in text.split("\n") if line.strip()]
    return "\n".join([*lines, *(f"#define {name} {value}" for name, value in numbers)])


def main():
    text = ('"""The declarations of tandem.h, made by make_cdef.py."""\n'
            f'CDEF = """\n{declarations(HEADER.read_text())}\n"""\n')
    if "--check" in sys.argv[1:]:
        if not OUT.exists() or OUT.read_text() != text:
            sys.exit(f"{OUT.name} is not that of tandem.h: run python/make_cdef.py")
    else:
        OUT.write_text(text)


if __name__ == "__main__":
    main()
