"""What Schemathesis cannot know: which orders and articles there are. And a tally of what was answered."""

import atexit
import collections
import json
import os
import re
import zlib

import schemathesis

ORDERS = os.environ["KNOWN_ORDERS"].split(",")
SKUS = ["TEA-ASSAM", "TEA-CEYLON", "TEA-SENCHA", "MUG-BLUE", "KETTLE"]
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)

tally = collections.defaultdict(collections.Counter)


def known(text, choices):
    """Three times in four one of those that there are, always the same for the same text."""
    number = zlib.crc32(text.encode("utf-8", "surrogatepass"))
    return text if number % 4 == 0 else choices[number // 4 % len(choices)]


@schemathesis.hook
def map_path_parameters(context, path_parameters):
    for name, value in (path_parameters or {}).items():
        if isinstance(value, str) and UUID.fullmatch(value):
            path_parameters[name] = known(value, ORDERS)
        elif name == "sku" and isinstance(value, str) and 1 <= len(value) <= 64:
            path_parameters[name] = known(value, SKUS)
    return path_parameters


@schemathesis.hook
def map_body(context, body):
    lines = body.get("lines") if isinstance(body, dict) else None
    for line in lines if isinstance(lines, list) else []:
        if isinstance(line, dict) and isinstance(line.get("sku"), str) and 1 <= len(line["sku"]) <= 64:
            line["sku"] = known(line["sku"], SKUS)
    return body


@schemathesis.hook
def after_call(context, case, response):
    tally[f"{case.method} {case.path}"][response.status_code] += 1


@atexit.register
def write():
    with open(os.environ["TALLY"], "w") as file:
        json.dump(tally, file)
