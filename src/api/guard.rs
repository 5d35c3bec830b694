//! What is checked before any route: host, origin, key, media type.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::model::{Code, Problem};
use crate::node::{Node, Origin};

/// Through which door a request came.
#[derive(Clone, Copy, Debug)]
pub(super) enum Door {
    /// TCP, at this address of ours.
    Tcp(SocketAddr),
    /// The control socket in the home folder.
    Control,
}

/// What the guard looks at.
#[derive(Clone)]
pub(super) struct Guard {
    pub(super) node: Arc<Node>,
    pub(super) door: Door,
}

/// A problem as a response.
pub(super) fn problem_response(problem: &Problem) -> Response {
    let status =
        StatusCode::from_u16(problem.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = (
        status,
        [(header::CONTENT_TYPE, "application/problem+json")],
        problem.to_json().to_string(),
    )
        .into_response();
    if let Some(ms) = problem.more.get("retry_after_ms").and_then(serde_json::Value::as_u64)
        && let Ok(seconds) = ms.div_ceil(1_000).to_string().parse()
    {
        response.headers_mut().insert(header::RETRY_AFTER, seconds);
    }
    response
}

pub(super) async fn guard(
    State(guard): State<Guard>,
    mut request: Request<Body>,
    next: Next,
) -> Response {
    if request.method() == Method::OPTIONS {
        return StatusCode::METHOD_NOT_ALLOWED.into_response();
    }
    let origin = match check(&guard, request.headers(), request.uri().path(), request.method()) {
        Ok(origin) => origin,
        Err(problem) => return problem_response(&problem),
    };
    if let Some(origin) = origin {
        request.extensions_mut().insert(origin);
    }
    next.run(request).await
}

/// Who sends a request; none where the route needs no key.
fn check(
    guard: &Guard,
    headers: &HeaderMap,
    path: &str,
    method: &Method,
) -> Result<Option<Origin>, Problem> {
    check_media(headers, method)?;
    let Door::Tcp(address) = guard.door else { return Ok(Some(Origin::Operator)) };
    check_host(headers, address)?;
    if path == "/health" {
        return Ok(None);
    }
    let key = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    let no_key = || {
        Problem::new(Code::NoKey, "this needs a key").hint("make one with: freehold key add NAME")
    };
    let key = key.ok_or_else(no_key)?;
    guard.node.authenticate(key)?.map(Some).ok_or_else(no_key)
}

fn check_host(headers: &HeaderMap, address: SocketAddr) -> Result<(), Problem> {
    let ours = address.to_string();
    let host = headers.get(header::HOST).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !ours.eq_ignore_ascii_case(host) {
        return Err(Problem::new(Code::BadHost, "the request is for another host")
            .hint(format!("use http://{address}")));
    }
    if let Some(origin) = headers.get(header::ORIGIN) {
        let origin = origin.to_str().unwrap_or_default();
        if !origin.eq_ignore_ascii_case(&format!("http://{ours}")) {
            return Err(Problem::new(
                Code::BadOrigin,
                "the request comes from a page of somebody else",
            ));
        }
    }
    Ok(())
}

fn check_media(headers: &HeaderMap, method: &Method) -> Result<(), Problem> {
    if method != Method::POST {
        return Ok(());
    }
    let media =
        headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media = media.split(';').next().unwrap_or_default().trim();
    if media.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    Err(Problem::new(Code::WrongMedia, "the body must be application/json")
        .hint("send the header: Content-Type: application/json"))
}
