//! A client of a node's API, over the control socket in its home.

use std::path::{Path, PathBuf};

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;

use crate::model::{Code, Json, Problem};

/// Bytes of an answer at most.
const ANSWER_MAX: usize = 64 * 1024 * 1024;

/// Reaches the node of one home.
#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
}

/// An answer of the API.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The body.
    pub body: Json,
}

fn no_node() -> Problem {
    Problem::new(Code::NoNode, "no node is running here").hint("start one with: freehold run")
}

fn broken(error: &dyn std::fmt::Display) -> Problem {
    Problem::new(Code::NoNode, format!("the node did not answer: {error}"))
}

impl Client {
    /// A client of the node on `home`.
    pub fn of(home: &Path) -> Self {
        Self { socket: home.join("control.sock") }
    }

    /// Whether a node listens there.
    pub async fn is_there(&self) -> bool {
        UnixStream::connect(&self.socket).await.is_ok()
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, String)],
        body: String,
    ) -> Result<Response<Incoming>, Problem> {
        let stream = UnixStream::connect(&self.socket).await.map_err(|_| no_node())?;
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.map_err(|error| broken(&error))?;
        tokio::spawn(connection);
        let mut request = Request::builder().method(method).uri(path).header("host", "localhost");
        request = request.header("content-type", "application/json");
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        let request = request.body(Full::new(Bytes::from(body))).map_err(|error| broken(&error))?;
        sender.send_request(request).await.map_err(|error| broken(&error))
    }

    /// Makes a call, and waits for it at most `wait_seconds` in place.
    ///
    /// # Errors
    /// No node answers, or the call was not done.
    pub async fn call(&self, call: &Json, wait_seconds: u64) -> Result<Answer, Problem> {
        let headers = [("prefer", format!("wait={wait_seconds}"))];
        let response = self.send(Method::POST, "/api/v1/calls", &headers, call.to_string()).await?;
        let status = response.status().as_u16();
        let body = http_body_util::Limited::new(response.into_body(), ANSWER_MAX);
        let bytes = body.collect().await.map_err(|error| broken(&error))?.to_bytes();
        let body: Json = serde_json::from_slice(&bytes).map_err(|error| broken(&error))?;
        if status >= 400 { Err(Problem::from_json(&body)) } else { Ok(Answer { status, body }) }
    }

    /// Follows the stream of events, and hands each one over until `hear` says no.
    ///
    /// # Errors
    /// No node answers, or it refuses.
    pub async fn events(
        &self,
        query: &str,
        last: Option<String>,
        mut hear: impl FnMut(Json) -> bool,
    ) -> Result<(), Problem> {
        let headers: Vec<(&str, String)> =
            last.map(|last| ("last-event-id", last)).into_iter().collect();
        let path = format!("/api/v1/events{query}");
        let response = self.send(Method::GET, &path, &headers, String::new()).await?;
        let refused = !response.status().is_success();
        let mut body = response.into_body();
        let mut text = Vec::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| broken(&error))?;
            let Some(data) = frame.data_ref() else { continue };
            text.extend_from_slice(data);
            while let Some(end) = text.iter().position(|byte| *byte == b'\n').filter(|_| !refused) {
                let line: Vec<u8> = text.drain(..=end).collect();
                if let Some(json) =
                    line.strip_prefix(b"data: ").and_then(|json| serde_json::from_slice(json).ok())
                    && !hear(json)
                {
                    return Ok(());
                }
            }
        }
        if refused {
            let json = serde_json::from_slice(&text).map_err(|error| broken(&error))?;
            return Err(Problem::from_json(&json));
        }
        Ok(())
    }
}
