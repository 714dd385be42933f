"""The shapes of what goes wrong, in the API document.

Lives here: the schemas of problems, with each member that some types add. Not here: the
types (`errors.py`) and what they mean (`problem_types.py`). Surprise: members are open,
as RFC 9457 has it; tests hold that none is answered which is not told of here.
"""

from typing import Any

UUID = {"type": "string", "format": "uuid"}

REASON = {
    "type": "string",
    "description": "Why a line cannot be ordered as it is",
    "enum": [
        "invalid_data",
        "not_found",
        "product_not_found",
        "inactive",
        "invalid_shop",
        "out_of_stock",
        "insufficient_stock",
    ],
}


def problem_shapes() -> dict[str, Any]:
    """Answer the schemas of all problems, and of the explanation of one."""
    text = {"type": "string"}
    base = {"$ref": "#/components/schemas/Problem"}
    members = {
        "type": {
            "type": "string",
            "format": "uri-reference",
            "description": "Stable; what a program should look at",
        },
        "title": text,
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
        "detail": text | {"description": "For people; may change"},
        "instance": text | {"description": "The path that was asked for"},
        "error": text | {"description": "The title again, for older front ends"},
    }
    errors = {
        "type": "object",
        "description": "What is wrong with which field, parameter or header",
        "additionalProperties": {"type": "array", "items": text},
    }
    some = {
        "errors": errors,
        "service": text | {"description": "The service that failed: 502, 503, 504"},
        "reason": REASON,
        "product_variation": UUID | {"description": "What cannot be sold like this"},
    }
    return {
        "Problem": {
            "title": "Problem",
            "description": "What went wrong (RFC 9457); some types add members.",
            "type": "object",
            "properties": members | some,
            "required": list(members),
        },
        "ProblemType": _problem_type(),
        "CartRepairedProblem": {
            "title": "CartRepairedProblem",
            "allOf": [base, _repairs()],
        },
        "CheckoutConflict": {
            "anyOf": [{"$ref": "#/components/schemas/CartRepairedProblem"}, base]
        },
        "NotReadyProblem": {
            "title": "NotReadyProblem",
            "allOf": [
                base,
                {
                    "type": "object",
                    "properties": {"down": {"type": "array", "items": text}},
                    "required": ["down"],
                },
            ],
        },
    }


def _problem_type() -> dict[str, Any]:
    text = {"type": "string"}
    properties = {
        "name": text,
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
        "title": text,
        "meaning": text,
        "occurs": text | {"description": "When it is answered"},
        "remedy": text | {"description": "What the caller should do"},
        "example": {"$ref": "#/components/schemas/Problem"},
        "type": text | {"description": "What an answer has as its `type`"},
    }
    return {
        "title": "ProblemType",
        "description": "One type of problem, explained.",
        "type": "object",
        "properties": properties,
        "required": list(properties),
    }


def _repairs() -> dict[str, Any]:
    count = {"type": "integer", "minimum": 0}
    text_or_null = {"type": ["string", "null"]}
    old = {"description": "Only with `quantity_updated`", "type": ["integer", "null"]}
    repair = {
        "cart_item_id": {"type": "integer"},
        "product_variation_id": text_or_null,
        "product_title": text_or_null,
        "action": {"type": "string", "enum": ["quantity_updated", "removed"]},
        "old_quantity": old,
        "new_quantity": old | {"type": "integer", "minimum": 1},
        "reason": REASON,
        "fixed": {"type": "boolean", "description": "Whether the cart took it"},
    }
    optional = {"old_quantity", "new_quantity"}
    properties = {
        "message": {"type": "string"},
        "issues_found": count,
        "items_fixed": count,
        "cart_id": {"type": "integer"},
        "details": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": repair,
                "required": [name for name in repair if name not in optional],
            },
        },
    }
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
    }
