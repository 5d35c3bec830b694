//! The routes: calls, jobs, health, metrics.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, Extension, Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json as Body, Router};
use serde::Deserialize;
use serde_json::json;

use super::guard::{Door, Guard, guard, problem_response};
use crate::catalog;
use crate::model::{Code, Json, Problem, suggest};
use crate::node::{Answer, Node, Origin, Request};

/// Bytes of a body at most.
const BODY_MAX: usize = 512 * 1024;
/// Seconds that a request may wait for its answer.
const WAIT_MAX: u64 = 3_600;

/// The parts of a call that a body may have.
const CALL_PARTS: [&str; 9] = [
    "command",
    "language",
    "recipient",
    "world",
    "caller",
    "args",
    "meta",
    "keep_turns",
    "timeout_ms",
];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CallBody {
    command: String,
    language: Option<String>,
    recipient: Option<String>,
    world: Option<String>,
    caller: Option<String>,
    #[serde(default)]
    args: Json,
    #[serde(default)]
    meta: Json,
    #[serde(default)]
    keep_turns: u64,
    timeout_ms: Option<u64>,
}

pub(super) fn router(node: Arc<Node>, door: Door) -> Router {
    let state = Guard { node, door };
    Router::new()
        .route("/api/v1/calls", post(calls))
        .route("/api/v1/events", get(super::events::events))
        .route("/api/v1/openapi.json", get(openapi))
        .route("/api/v1/jobs/{id}", get(job))
        .route("/api/v1/jobs/{id}/data", get(job_data))
        .route("/api/v1/jobs/{id}/trace", get(job_trace))
        .route("/api/v1/{noun}/{verb}", post(one))
        .route("/health", get(health))
        .route("/metrics", get(metrics))
        .fallback(nothing)
        .layer(from_fn_with_state(state.clone(), guard))
        .layer(DefaultBodyLimit::max(BODY_MAX))
        .with_state(state)
}

async fn nothing() -> Response {
    let hint = "see the routes at /api/v1/openapi.json";
    problem_response(&Problem::new(Code::NotFound, "there is no such route").hint(hint))
}

async fn openapi() -> Body<Json> {
    Body(super::openapi())
}

async fn health(State(guard): State<Guard>) -> Response {
    let health = if guard.node.is_read_only() { "read_only" } else { "good" };
    Body(json!({"health": health})).into_response()
}

async fn metrics(State(guard): State<Guard>) -> Response {
    let turn = guard.node.turn().unwrap_or(0);
    let read_only = u8::from(guard.node.is_read_only());
    let text = format!(
        "# TYPE freehold_turn counter\n# HELP freehold_turn Durable turns.\nfreehold_turn_total {turn}\n\
         # TYPE freehold_read_only gauge\n# HELP freehold_read_only Whether the store takes no changes.\n\
         freehold_read_only {read_only}\n# EOF\n"
    );
    let media = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, media)], text).into_response()
}

async fn calls(
    State(guard): State<Guard>,
    Extension(origin): Extension<Origin>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let parsed = read_body(body).and_then(|json| {
        serde_json::from_value::<CallBody>(json).map_err(|error| bad_call(&error.to_string()))
    });
    let parsed = parsed.and_then(|parsed| check_parts(&parsed).map(|()| parsed));
    let parsed = match parsed {
        Ok(parsed) => parsed,
        Err(problem) => return problem_response(&problem),
    };
    let request = Request {
        command: parsed.command,
        args: if parsed.args.is_null() { json!({}) } else { parsed.args },
        origin,
        caller: parsed.caller,
        world: parsed.world,
        meta: parsed.meta,
        timeout_ms: parsed.timeout_ms,
        idempotency: idempotency(&headers),
    };
    // Outcomes are kept for a day, which is longer than any count of turns that is asked for.
    let _ = parsed.keep_turns;
    answer(&guard.node, request, &headers).await
}

/// Two parts of a call take no other value yet: names are English, and results go to the caller.
fn check_parts(call: &CallBody) -> Result<(), Problem> {
    let english = call
        .language
        .as_deref()
        .is_none_or(|language| language == "en" || language.starts_with("en-"));
    if !english {
        return Err(Problem::new(
            Code::Usage,
            "commands are named in English alone in this version",
        ));
    }
    if call.recipient.is_some() {
        return Err(Problem::new(Code::Usage, "a recipient is not supported by this version"));
    }
    Ok(())
}

fn bad_call(error: &str) -> Problem {
    let unknown = error.strip_prefix("unknown field `").and_then(|rest| rest.split('`').next());
    match unknown {
        Some(field) => {
            let problem = Problem::new(Code::UnknownField, format!("a call has no part '{field}'"));
            match suggest(field, CALL_PARTS) {
                Some(meant) => problem.hint(format!("did you mean '{meant}'?")),
                None => problem.hint(format!("it has: {}", CALL_PARTS.join(", "))),
            }
        }
        None => Problem::new(Code::BadBody, format!("the body is no call: {error}")),
    }
}

async fn one(
    State(guard): State<Guard>,
    Extension(origin): Extension<Origin>,
    Path((noun, verb)): Path<(String, String)>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let command = format!("{noun}.{verb}");
    if catalog::find(&command).is_none_or(|found| !found.is_public()) {
        return nothing().await;
    }
    let args = match read_body(body) {
        Ok(args) => args,
        Err(problem) => return problem_response(&problem),
    };
    let header =
        |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let request = Request {
        command,
        args,
        origin,
        caller: header("freehold-caller"),
        world: None,
        meta: Json::Null,
        timeout_ms: None,
        idempotency: idempotency(&headers),
    };
    answer(&guard.node, request, &headers).await
}

fn idempotency(headers: &HeaderMap) -> Option<String> {
    headers.get("idempotency-key").and_then(|value| value.to_str().ok()).map(str::to_owned)
}

/// Seconds that the caller wants to wait in place (RFC 7240, `Prefer: wait=N`).
fn wait(headers: &HeaderMap) -> Duration {
    let prefer = headers.get("prefer").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let wait = prefer
        .split([',', ';'])
        .find_map(|part| part.trim().strip_prefix("wait=")?.parse::<u64>().ok());
    Duration::from_secs(wait.unwrap_or(0).min(WAIT_MAX))
}

fn read_body(body: Result<Bytes, BytesRejection>) -> Result<Json, Problem> {
    let bytes = body.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => {
            Problem::new(Code::TooLarge, format!("a body has at most {BODY_MAX} bytes"))
        }
        _ => Problem::new(Code::BadBody, "the body could not be read"),
    })?;
    if bytes.is_empty() {
        return Ok(json!({}));
    }
    serde_json::from_slice(&bytes).map_err(|error| {
        if error.to_string().contains("recursion limit") {
            Problem::new(Code::TooDeep, "the body is nested deeper than 128")
        } else {
            Problem::new(Code::BadBody, format!("the body is no JSON: {error}"))
        }
    })
}

async fn answer(node: &Node, request: Request, headers: &HeaderMap) -> Response {
    let (command, meta) = (request.command.clone(), request.meta.clone());
    match node.call(request, Some(wait(headers))).await {
        Ok(Answer::Done { job, result }) => {
            let body = json!({
                "job": job,
                "command": command,
                "status": "finished",
                "outcome": "done",
                "result": result,
                "meta": meta,
            });
            Body(body).into_response()
        }
        Ok(Answer::Taken(job)) => {
            let body = json!({"job": job, "command": command, "status": "started", "outcome": null, "meta": meta});
            let place = format!("/api/v1/jobs/{job}");
            (StatusCode::ACCEPTED, [(header::LOCATION, place)], Body(body)).into_response()
        }
        Err(problem) => problem_response(&problem),
    }
}

async fn read_job(
    guard: &Guard,
    origin: Origin,
    command: &str,
    id: String,
) -> Result<Json, Problem> {
    let request = Request {
        command: command.to_owned(),
        args: json!({"job": id}),
        origin,
        caller: None,
        world: None,
        meta: Json::Null,
        timeout_ms: None,
        idempotency: None,
    };
    match guard.node.call(request, None).await? {
        Answer::Done { result, .. } => Ok(result),
        Answer::Taken(_) => Err(Problem::new(Code::Internal, "a reading call was taken as a job")),
    }
}

fn shown(result: Result<Json, Problem>) -> Response {
    match result {
        Ok(json) => Body(json).into_response(),
        Err(problem) => problem_response(&problem),
    }
}

async fn job(
    State(guard): State<Guard>,
    Extension(origin): Extension<Origin>,
    Path(id): Path<String>,
) -> Response {
    shown(read_job(&guard, origin, "job.show", id).await)
}

async fn job_data(
    State(guard): State<Guard>,
    Extension(origin): Extension<Origin>,
    Path(id): Path<String>,
) -> Response {
    shown(read_job(&guard, origin, "job.data", id).await)
}

async fn job_trace(
    State(guard): State<Guard>,
    Extension(origin): Extension<Origin>,
    Path(id): Path<String>,
) -> Response {
    let job = read_job(&guard, origin, "job.show", id).await;
    shown(job.map(|job| json!({"id": job["id"], "trace": job["trace"]})))
}
