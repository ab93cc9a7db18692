"""The name PostgreSQL gives to each column of a select list (FigureColname in its parse_target.c)."""

from __future__ import annotations

from workers.sql.policy.postgres.walk import Node, kind_of, strings

_UNNAMED = "?column?"
_FIXED = {
    "A_ArrayExpr": "array",
    "RowExpr": "row",
    "CoalesceExpr": "coalesce",
    "GroupingFunc": "grouping",
    "XmlSerialize": "xmlserialize",
    "JsonObjectConstructor": "json_object",
    "JsonArrayConstructor": "json_array",
    "JsonArrayQueryConstructor": "json_array",
    "JsonObjectAgg": "json_objectagg",
    "JsonArrayAgg": "json_arrayagg",
    "JsonParseExpr": "json",
    "JsonScalarExpr": "json_scalar",
    "JsonSerializeExpr": "json_serialize",
}
_JSON_FUNCTIONS = {"JSON_EXISTS_OP": "json_exists", "JSON_QUERY_OP": "json_query", "JSON_VALUE_OP": "json_value"}
_XML = {
    "IS_XMLCONCAT": "xmlconcat",
    "IS_XMLELEMENT": "xmlelement",
    "IS_XMLFOREST": "xmlforest",
    "IS_XMLPARSE": "xmlparse",
    "IS_XMLPI": "xmlpi",
    "IS_XMLROOT": "xmlroot",
}


def output_name(target: Node) -> str:
    """Name of the column that this ResTarget yields."""
    return target.get("name") or _figure(target["val"])[0] or _UNNAMED


def _figure(node: Node) -> tuple[str, int]:
    """Name and how good it is: 0 none, 1 of a type, 2 of a column or function."""
    kind = kind_of(node)
    message = node[kind]
    if kind == "ColumnRef":
        names = [f["String"]["sval"] for f in message["fields"] if "String" in f]
        return (names[-1], 2) if "String" in message["fields"][-1] else ("", 0)
    if kind == "A_Indirection":
        steps = [step["String"]["sval"] for step in message["indirection"] if "String" in step]
        return (steps[-1], 2) if steps else _figure(message["arg"])
    if kind == "FuncCall":
        return strings(message["funcname"])[-1], 2
    if kind == "A_Expr":
        return ("nullif", 2) if message["kind"] == "AEXPR_NULLIF" else ("", 0)
    if kind == "TypeCast":
        inner = _figure(message["arg"])
        return inner if inner[1] > 1 else (strings(message["typeName"]["names"])[-1], 1)
    if kind == "CollateClause":
        return _figure(message["arg"])
    if kind == "CaseExpr":
        inner = _figure(message["defresult"]) if "defresult" in message else ("", 0)
        return inner if inner[1] > 1 else ("case", 1)
    if kind == "SubLink":
        return _figure_sublink(message)
    if kind == "MinMaxExpr":
        return ("greatest" if message["op"] == "IS_GREATEST" else "least"), 2
    if kind == "SQLValueFunction":
        return message["op"].removeprefix("SVFOP_").removesuffix("_N").lower(), 2
    if kind == "XmlExpr":
        return _XML.get(message["op"], ""), 2
    if kind == "JsonFuncExpr":
        return _JSON_FUNCTIONS.get(message["op"], ""), 2
    return _FIXED.get(kind, ""), 2


def _figure_sublink(message: Node) -> tuple[str, int]:
    link = message["subLinkType"]
    if link == "EXISTS_SUBLINK":
        return "exists", 2
    if link == "ARRAY_SUBLINK":
        return "array", 2
    if link == "EXPR_SUBLINK":
        query = message["subselect"]["SelectStmt"]
        while "larg" in query:
            query = query["larg"]
        if query.get("targetList"):
            target = query["targetList"][0]["ResTarget"]
            return (target["name"], 2) if "name" in target else _figure(target["val"])
        return ("column1", 2) if "valuesLists" in query else ("", 0)
    return "", 0
