//! Live events: server-sent, resumed by `Last-Event-ID`.

use std::collections::HashSet;
use std::convert::Infallible;
use std::sync::Arc;

use axum::extract::{Extension, Query, State};
use axum::http::HeaderMap;
use axum::response::sse::{Event as Sent, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::stream::{self, Stream, StreamExt};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::broadcast::error::RecvError;

use super::guard::{Guard, problem_response};
use crate::model::{Event, Head, Json, LogId, Problem, ServerId, WorldId};
use crate::node::{Answer, Node, Origin, Request};

#[derive(Deserialize)]
pub(super) struct Filter {
    kinds: Option<String>,
    world: Option<String>,
}

struct Wanted {
    kinds: Option<HashSet<String>>,
    world: Option<WorldId>,
    origin: Origin,
    seen: HashSet<Head>,
}

impl Wanted {
    fn fits(&self, node: &Node, event: &Event) -> bool {
        let kind = self.kinds.as_ref().is_none_or(|kinds| kinds.contains(event.kind.as_str()));
        let world = self.world.is_none_or(|world| world == event.world);
        kind && world && !self.seen.contains(&event.head) && node.may_see(&self.origin, event)
    }
}

pub(super) async fn events(
    State(guard): State<Guard>,
    Extension(origin): Extension<Origin>,
    Query(filter): Query<Filter>,
    headers: HeaderMap,
) -> Response {
    let world = match &filter.world {
        None => None,
        Some(name) => match find_world(&guard.node, &origin, name).await {
            Ok(world) => Some(world),
            Err(problem) => return problem_response(&problem),
        },
    };
    let kinds =
        filter.kinds.map(|kinds| kinds.split(',').map(|kind| kind.trim().to_owned()).collect());
    let live = guard.node.live();
    let mut wanted = Wanted { kinds, world, origin, seen: HashSet::new() };
    let last =
        headers.get("last-event-id").and_then(|value| value.to_str().ok()).map(str::to_owned);
    let backlog = backlog(&guard.node, &mut wanted, last.as_deref());
    let stream = stream::iter(backlog).chain(following(guard.node.clone(), live, wanted));
    Sse::new(stream).keep_alive(KeepAlive::default()).into_response()
}

/// The world that a name stands for, here or elsewhere; one elsewhere is followed from now on.
async fn find_world(node: &Node, origin: &Origin, name: &str) -> Result<WorldId, Problem> {
    let request = Request {
        command: "world.show".to_owned(),
        args: json!({"world": name}),
        origin: origin.clone(),
        caller: None,
        world: None,
        meta: Json::Null,
        timeout_ms: None,
        idempotency: None,
    };
    let Answer::Done { result, .. } = node.call(request, None).await? else {
        return Err(Problem::new(
            crate::model::Code::Internal,
            "a reading call was taken as a job",
        ));
    };
    let field = |name: &str| result.get(name).and_then(Json::as_str);
    let world = field("id").and_then(|id| id.parse::<WorldId>().ok());
    let world = world.ok_or_else(|| {
        Problem::new(crate::model::Code::NotFound, format!("there is no world '{name}'"))
    })?;
    if let Some(server) = field("server").and_then(|id| id.parse::<ServerId>().ok()) {
        node.follow(server, world).await;
    }
    Ok(world)
}

fn backlog(node: &Node, wanted: &mut Wanted, last: Option<&str>) -> Vec<Result<Sent, Infallible>> {
    let Some(last) = last else { return Vec::new() };
    let head = last.split_once(':').and_then(|(log, seq)| {
        Some(Head { log: log.parse::<LogId>().ok()?, seq: seq.parse().ok()? })
    });
    let events = head.and_then(|head| node.events_after(head).ok().flatten());
    let Some(events) = events else { return vec![Ok(resync())] };
    let mut sent = Vec::new();
    for event in events {
        if wanted.fits(node, &event) {
            sent.push(Ok(shown(&event)));
        }
        if event.head.seq > 0 {
            wanted.seen.insert(event.head);
        }
    }
    sent
}

fn following(
    node: Arc<Node>,
    live: tokio::sync::broadcast::Receiver<Arc<Event>>,
    wanted: Wanted,
) -> impl Stream<Item = Result<Sent, Infallible>> {
    stream::unfold((node, live, wanted, false), |(node, mut live, mut wanted, over)| async move {
        if over {
            return None;
        }
        loop {
            tokio::select! {
                event = live.recv() => match event {
                    Ok(event) if wanted.fits(&node, &event) => {
                        return Some((Ok(shown(&event)), (node, live, wanted, false)));
                    }
                    Ok(event) => {
                        wanted.seen.remove(&event.head);
                    }
                    // A reader that is too slow is told so once, and starts anew.
                    Err(RecvError::Lagged(_)) => return Some((Ok(resync()), (node, live, wanted, true))),
                    Err(RecvError::Closed) => return None,
                },
                () = node.asked_to_stop() => return None,
            }
        }
    })
}

fn resync() -> Sent {
    Sent::default().event("resync").data("{\"schema\":\"freehold.resync/1\"}")
}

fn shown(event: &Event) -> Sent {
    // What is fleeting has none: nobody can go on from there.
    let id = (event.head.seq > 0).then(|| format!("{}:{}", event.head.log, event.head.seq));
    let json = json!({
        "schema": "freehold.event/1",
        "id": id,
        "seq": event.head.seq,
        "kind": event.kind.as_str(),
        "name": event.name,
        "world": event.world,
        "element": event.element,
        "attribute": event.attribute,
        "value": event.value,
        "old": event.old,
        "origin": event.origin,
        "by": event.by,
        "at": event.at.to_string(),
    });
    let sent = Sent::default();
    let sent = match &id {
        Some(id) => sent.id(id),
        None => sent,
    };
    sent.event("event").data(json.to_string())
}
