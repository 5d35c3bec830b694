//! The OpenAPI 3.1 description, made from the catalog.

use serde_json::{Map, json};

use crate::catalog::{ArgKind, COMMANDS, Command};
use crate::model::{Code, Json};

/// The description of every route.
pub fn openapi() -> Json {
    let mut paths = Map::new();
    for command in COMMANDS.iter().filter(|command| command.is_public()) {
        let path = format!("/api/v1/{}/{}", command.noun(), command.verb());
        paths.insert(path, json!({"post": operation(command)}));
    }
    let get = |about: &str| json!({"get": {"summary": about, "responses": {"200": {"description": "so it is"}}}});
    paths.insert("/api/v1/calls".to_owned(), json!({"post": calls()}));
    paths.insert("/api/v1/jobs/{id}".to_owned(), get("Where a job stands."));
    paths.insert("/api/v1/jobs/{id}/data".to_owned(), get("The result of a job."));
    paths.insert("/api/v1/jobs/{id}/trace".to_owned(), get("What a job's scripts logged."));
    paths.insert(
        "/api/v1/events".to_owned(),
        get("Live events, server-sent; resumed by Last-Event-ID."),
    );
    paths.insert("/health".to_owned(), get("Whether the node lives; needs no key."));
    paths.insert("/metrics".to_owned(), get("OpenMetrics."));
    json!({
        "openapi": "3.1.0",
        "info": {"title": "Freehold", "version": env!("CARGO_PKG_VERSION"), "description": "The local API of a node."},
        "paths": paths,
        "components": {
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
            "schemas": {"Problem": problem()},
        },
        "security": [{"key": []}],
    })
}

fn problem() -> Json {
    let codes: Vec<&str> = Code::ALL.iter().map(|code| code.as_str()).collect();
    json!({
        "type": "object",
        "description": "RFC 9457",
        "required": ["type", "title", "status", "code", "detail", "exit"],
        "properties": {
            "type": {"type": "string"},
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "code": {"type": "string", "enum": codes},
            "detail": {"type": "string"},
            "hint": {"type": ["string", "null"]},
            "exit": {"type": "integer"},
        },
    })
}

fn calls() -> Json {
    let names: Vec<&str> =
        COMMANDS.iter().filter(|command| command.is_public()).map(|command| command.name).collect();
    json!({
        "summary": "Any command, by name, daily word or id.",
        "requestBody": {"required": true, "content": {"application/json": {"schema": {
            "type": "object",
            "required": ["command"],
            "properties": {
                "command": {"type": "string", "examples": names},
                "world": {"type": "string"},
                "caller": {"type": "string"},
                "args": {"type": "object"},
                "meta": {},
                "keep_turns": {"type": "integer"},
                "timeout_ms": {"type": "integer"},
            },
        }}}},
        "responses": responses(&json!({"type": "object"})),
    })
}

fn operation(command: &Command) -> Json {
    let mut properties = Map::new();
    for arg in command.args {
        let mut schema = match arg.kind {
            ArgKind::Text | ArgKind::Duration | ArgKind::File => json!({"type": "string"}),
            ArgKind::Texts => json!({"type": "array", "items": {"type": "string"}}),
            ArgKind::Value => json!({}),
            ArgKind::Object => json!({"type": "object"}),
            ArgKind::Flag => json!({"type": "boolean"}),
            ArgKind::Count => json!({"type": "integer", "minimum": 0}),
        };
        schema["description"] = json!(arg.about);
        properties.insert(arg.name.to_owned(), schema);
    }
    let required: Vec<&str> =
        command.args.iter().filter(|arg| arg.required).map(|arg| arg.name).collect();
    let results: Map<String, Json> = command
        .results
        .iter()
        .map(|field| (field.name.to_owned(), json!({"description": field.about})))
        .collect();
    json!({
        "operationId": command.name,
        "summary": command.about,
        "tags": [command.noun()],
        "requestBody": {"content": {"application/json": {"schema": {
            "type": "object", "properties": properties, "required": required, "additionalProperties": false,
        }}}},
        "responses": responses(&json!({"type": "object", "properties": results})),
    })
}

fn responses(result: &Json) -> Json {
    json!({
        "200": {"description": "done", "content": {"application/json": {"schema": {
            "type": "object", "properties": {"job": {"type": ["string", "null"]}, "result": result},
        }}}},
        "202": {"description": "taken; the job is named"},
        "default": {"description": "not done", "content": {"application/problem+json": {"schema": {
            "$ref": "#/components/schemas/Problem",
        }}}},
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_public_command_has_its_route_in_the_schema() {
        let schema = openapi();
        for command in COMMANDS {
            let path = format!("/api/v1/{}/{}", command.noun(), command.verb());
            assert_eq!(schema["paths"].get(&path).is_some(), command.is_public(), "{path}");
        }
    }
}
