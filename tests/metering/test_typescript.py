import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from solaris_meter.metering.typescript import namespace

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=20,
)
WORDS = st.sampled_from(["type", "properties", "items", "enum", "anyOf", "oneOf", "allOf", "$ref", "$defs"]) | (
    st.sampled_from(["description", "title", "default", "const", "required"])
)
VALUES = st.sampled_from(["object", "array", "string", "#", "#/$defs/a", "#/properties", "", True, None, 1])
SCHEMAS = st.recursive(
    VALUES,
    lambda inner: (
        st.dictionaries(WORDS | st.sampled_from(["a", "b"]), inner, max_size=5)
        | st.lists(inner, max_size=4)
        | st.builds(lambda props: {"type": "object", "properties": props}, st.dictionaries(st.text(max_size=3), inner))
    ),
    max_leaves=30,
)


def function(name, parameters=None, description=None):
    described = {"name": name} | ({} if description is None else {"description": description})
    return {"type": "function", "function": described | ({} if parameters is None else {"parameters": parameters})}


def an_object(properties, required=()):
    return {"type": "object", "properties": properties, "required": list(required)}


def type_of(schema, **definitions):
    """The type that a schema becomes, as the only member of a function."""
    text = namespace([function("f", an_object({"a": schema}, ["a"]) | {"$defs": definitions})])
    return text.split("type f = (_: { a: ")[1].removesuffix(" }) => any;\n\n} // namespace functions")


def test_a_function_is_shown_with_its_comments():
    weather = an_object(
        {
            "cidade": {"type": "string", "description": "Nome da cidade"},
            "unidade": {"type": "string", "enum": ["C", "F"]},
        },
        ["cidade"],
    )
    assert (
        namespace([function("clima", weather, "O tempo agora")])
        == """# Tools

## functions

namespace functions {

// O tempo agora
type clima = (_: {
// Nome da cidade
cidade: string,
unidade?: "C" | "F",
}) => any;

} // namespace functions"""
    )


def test_without_comments_an_object_is_one_line():
    point = an_object({"x": {"type": "number"}, "y": {"type": "integer"}}, ["x"])
    assert "type f = (_: { x: number, y?: number }) => any;\n\n}" in namespace([function("f", point)])


def test_without_properties_there_are_no_parameters():
    for tool in (function("f"), function("f", {}), function("f", an_object({})), function("f", [])):
        assert "type f = () => any;\n\n}" in namespace([tool])


def test_several_functions_stand_in_one_namespace():
    text = namespace([function("um"), function("dois", description="segundo"), {"type": "web_search"}])
    assert text.endswith("{\n\ntype um = () => any;\n\n// segundo\ntype dois = () => any;\n\n} // namespace functions")
    assert text.count("namespace functions {") == 1


def test_what_is_no_function_is_not_shown():
    assert namespace([]) == ""
    for tool in ({"type": "web_search"}, {}, {"function": None}, {"function": {"name": 7}}):
        assert namespace([tool]) == ""


def test_a_freeform_tool_is_shown_with_its_grammar():
    grammar = {"type": "grammar", "grammar": {"syntax": "lark", "definition": 'start: "a"'}}
    tool = {"type": "custom", "custom": {"name": "shell", "description": "Um comando", "format": grammar}}
    assert '// Um comando\n// start: "a"\ntype shell = (FREEFORM) => any;' in namespace([tool])


@pytest.mark.parametrize(
    ("schema", "written"),
    [
        ({"type": "string"}, "string"),
        ({"type": "integer", "enum": [-1, 1]}, "-1 | 1"),
        ({"const": "fixo"}, '"fixo"'),
        ({"type": "array", "items": {"type": "string"}}, "string[]"),
        ({"type": "array"}, "any[]"),
        ({"type": ["string", "null"]}, "string | null"),
        ({"anyOf": [{"type": "number"}, {"type": "null"}]}, "number | null"),
        ({"type": "object"}, "object"),
        (an_object({"b": {"type": "boolean"}}), "{ b?: boolean }"),
        ({"properties": {"b": {"type": "null"}}}, "{ b?: null }"),
        ({}, "any"),
        (True, "any"),
        ({"type": "unheard-of"}, "any"),
        ({"$ref": "#/$defs/missing"}, "any"),
    ],
)
def test_each_type_of_json_schema(schema, written):
    assert type_of(schema) == written


def test_a_reference_is_followed_and_a_title_heads_what_it_finds():
    recipe = an_object({"nome": {"type": "string", "title": "Nome"}}, ["nome"]) | {"title": "Receita"}
    assert type_of({"$ref": "#/$defs/R"}, R=recipe) == "// Receita\n{\n// Nome\nnome: string,\n}"


def test_a_title_stands_above_a_description_and_a_default_behind():
    value = {"type": "string", "title": "Busca", "description": "O que procurar", "default": ""}
    text = namespace([function("f", an_object({"q": value}) | {"title": "f_args"})])
    assert '(_: // f_args\n{\n// Busca\n//\n// O que procurar\nq?: string, // default: ""\n}) =>' in text


def test_a_schema_that_refers_to_itself_ends():
    tree = an_object({"filhos": {"type": "array", "items": {"$ref": "#/$defs/T"}}})
    assert type_of({"$ref": "#/$defs/T"}, T=tree) == "{ filhos?: any[] }"
    assert "any" in namespace([function("f", an_object({"a": {"$ref": "#"}}))])


def test_a_schema_that_grows_with_every_reference_ends():
    several = {f"d{n}": an_object({letter: {"$ref": f"#/$defs/d{n + 1}"} for letter in "abcdefgh"}) for n in range(30)}
    assert len(type_of({"$ref": "#/$defs/d0"}, **several)) < 40_000_000


def test_a_schema_deeper_than_the_stack_ends():
    deep: dict[str, object] = {"type": "string"}
    for _ in range(5_000):
        deep = {"type": "array", "items": deep}
    assert type_of(deep).startswith("any[][]")


@given(st.lists(st.builds(function, st.text(max_size=5) | JSON, JSON | SCHEMAS, JSON), max_size=3))
def test_no_tool_raises(tools):
    json.dumps(namespace(tools))


@given(SCHEMAS)
def test_no_schema_raises(schema):
    assert isinstance(namespace([function("f", schema)]), str)
