"""Random schemas of tools and answers: what people write, bounded by maxLength and maxItems, and all of it enforceable
(docs/STRUCTURED.md). The same seed makes the same schemas."""
import random

NAMES = ["name", "id", "kind", "count", "tags", "price", "note", "größe", "is_open", "at", "zip-code", "owner", "items", "x", "mode", "place", "limit",
         "first name", "ref", "color"]
VERBS = ["get", "find", "make", "send", "list", "move", "check"]
NOUNS = ["weather", "order", "user", "file", "room", "train", "mail", "price"]
WORDS = ["red", "green", "blue", "north", "south", "größer", "a b", "x\"y", "back\\slash", "中文", "on", "off", "yes", "1"]
PATTERNS = ["^[0-9]{5}$", "^[A-Z]{2,3}-[0-9]{1,4}$", "^(foo|ba[rz]){1,3}$", "^#[0-9a-f]{6}$", "^\\+?[0-9]{3,12}$", "^[^\\s\"]{1,8}$", "^v\\d{1,2}(\\.\\d{1,2}){0,2}$"]
FORMATS = ["date", "time", "date-time", "uuid", "ipv4", "ipv6", "email"]
VALUES = [0, 1, -7, 2.5, True, None, "one", [1, "two"], {"k": "v"}, {}, []]


class Maker:
    """One schema. budget: how many more schemas within schemas it may have, so that answers stay short."""

    def __init__(self, rng, budget):
        self.rng, self.budget, self.defs = rng, budget, {}

    def string(self):
        rng, kind = self.rng, self.rng.random()
        if kind < 0.2:
            return {"type": "string", "pattern": rng.choice(PATTERNS)}
        if kind < 0.4:
            name = rng.choice(FORMATS)
            return {"type": "string", "format": name, **({"maxLength": 24} if name == "email" else {})}
        low = rng.choice([None, None, 1, 2])
        return {"type": "string", **({"minLength": low} if low else {}), "maxLength": rng.randrange(low or 1, 17)}

    def integer(self):
        rng = self.rng
        low = rng.randrange(-1000, 1000)
        schema = {"type": "integer", rng.choice(["minimum", "exclusiveMinimum"]): low, rng.choice(["maximum", "exclusiveMaximum"]): low + rng.randrange(12, 5000)}
        if rng.random() < 0.2:
            schema["multipleOf"] = rng.choice([2, 5, 10])
        return schema

    def number(self):
        rng = self.rng
        schema = {"type": "number", "minimum": rng.choice([-90, -2.5, 0]), rng.choice(["maximum", "exclusiveMaximum"]): rng.choice([0.5, 10, 180])}
        return {**schema, "multipleOf": 0.25} if rng.random() < 0.3 else schema

    def listed(self):
        rng = self.rng
        if rng.random() < 0.3:
            return {"const": rng.choice(VALUES)}
        return {"enum": rng.sample(WORDS, rng.randrange(1, 6)) + rng.sample([1, 2.5, None, True], rng.choice([0, 0, 1, 2]))}

    def simple(self):
        rng = self.rng
        return rng.choice([self.string, self.string, self.integer, self.number, self.listed, self.listed, lambda: {"type": "boolean"}, lambda: {"type": "null"},
                           lambda: {"type": rng.choice([["integer", "null"], ["boolean", "null"]]), "minimum": 0, "maximum": 99}])()

    def array(self, depth):
        rng = self.rng
        if rng.random() < 0.2:
            first = [self.simple(), self.simple()]
            return {"type": "array", "prefixItems": first, "items": False, "minItems": 2}
        low, most = rng.choice([0, 0, 1]), rng.randrange(1, 4)
        return {"type": "array", "items": self.schema(depth - 1), **({"minItems": low} if low else {}), "maxItems": most}

    def object(self, depth):
        rng = self.rng
        names = rng.sample(NAMES, rng.randrange(1, 5))
        properties = {}
        for name in names:
            properties[name] = self.schema(depth - 1)
            if rng.random() < 0.3:
                properties[name] = {"description": f"The {name}.", **properties[name]}
        required = [name for name in names if rng.random() < 0.7]
        return {"type": "object", "properties": properties, **({"required": required} if required else {}), "additionalProperties": False}

    def any_of(self, depth):
        options = [self.schema(depth - 1) for _ in range(self.rng.randrange(2, 4))]
        return {"anyOf": options}

    def one_of(self):
        """Told apart by a constant, as pydantic writes it."""
        return {"oneOf": [{"type": "object", "properties": {"type": {"const": word}, "value": self.simple()}, "required": ["type", "value"],
                           "additionalProperties": False} for word in self.rng.sample(WORDS, 2)]}

    def reference(self, depth):
        name = self.rng.choice(["part", "a/b", "größe"])
        if name not in self.defs:
            self.defs[name] = None  # while it is made nobody refers to it, so that nothing refers to itself
            self.defs[name] = self.schema(depth - 1)
        return {"$ref": "#/$defs/" + name.replace("/", "~1")} if self.defs[name] else self.simple()

    def schema(self, depth):
        self.budget -= 1
        if depth <= 0 or self.budget <= 0:
            return self.simple()
        kind = self.rng.random()
        if kind < 0.5:
            return self.simple()
        return (self.object(depth) if kind < 0.68 else self.array(depth) if kind < 0.83 else self.any_of(depth) if kind < 0.9
                else self.one_of() if kind < 0.94 else self.reference(depth))


def random_schema(rng, budget=10):
    """An object, as arguments of tools are."""
    maker = Maker(rng, budget)
    schema = maker.object(3)
    return {**schema, "$defs": maker.defs} if maker.defs else schema


def random_tools(rng):
    """[(name, schema)]"""
    names = rng.sample([f"{v}_{n}" for v in VERBS for n in NOUNS], rng.randrange(1, 4))
    return [(name, random_schema(rng)) for name in names]


def rng_of(seed, i):
    return random.Random(f"{seed}/{i}")
