//! Feeds: the numbered events of a world for one audience, pulled by whoever follows it.

use std::sync::Arc;

use serde_json::json;

use super::element::log_of;
use crate::model::{
    Audience, Caller, Code, Event, Following, Head, Json, Key, Problem, ProtectionState, Row,
    ServerId, Touched, WorldId,
};
use crate::step::{Halt, Step, not_offered, outdated};
use crate::trust;

/// Events in one page.
const EVENTS_MAX: usize = 200;
/// Bytes of JSON in one page, about.
const PAGE_BYTES_MAX: usize = 40 * 1024;

/// The newest number of a feed.
pub(super) fn head(step: &Step<'_>, world: WorldId, audience: &Audience) -> Result<Head, Halt> {
    let log = log_of(step, world, audience)?;
    let last = step.stored().last_row(&Key::FeedAt(log, 0), &Key::FeedAt(log, u64::MAX))?;
    let seq = match last {
        Some((Key::FeedAt(_, seq), _)) => seq,
        _ => 0,
    };
    Ok(Head { log, seq })
}

/// The audience that the calling server belongs to: a list that it is on, else the public.
fn audience_of_caller(step: &Step<'_>) -> Result<Audience, Halt> {
    let Caller::Remote { server, presented, .. } = &step.call.caller else {
        return Ok(Audience::Home);
    };
    for row in super::protection::of_server(step, *server)? {
        let active = row.state == ProtectionState::Active;
        if active && trust::bond(Some(&row), presented) == crate::model::Bond::Proven {
            return Ok(Audience::List(row.list.clone()));
        }
    }
    Ok(Audience::Public)
}

/// Gives the events of a feed since a number; without a number, where the feed stands.
pub(super) fn pull(step: &mut Step<'_>) -> Result<Json, Halt> {
    let text = step.word("world");
    let world = match text.parse::<WorldId>() {
        Ok(id) => step.stored().world(id)?,
        Err(_) => step.world(Some(text)).ok(),
    };
    let world = world.ok_or_else(|| not_offered(text))?.id;
    let audience = audience_of_caller(step)?;
    let head = head(step, world, &audience)?;
    if head.seq == 0 && step.call.caller.server().is_some() {
        // Nothing in it was ever for this caller: it hears what it would hear of no world at all.
        return Err(not_offered(text).into());
    }
    let page = |events: &[Event], more: bool, resync: bool| json!({"world": world, "head": head, "audience": audience.label(), "events": events, "more": more, "resync": resync});
    let Some(since) = step.arg("since").as_u64() else { return Ok(page(&[], false, false)) };
    let same = step.text("log").is_some_and(|log| log == head.log.to_string());
    if !same || since > head.seq {
        return Ok(page(&[], false, true));
    }
    match events_since(step, head, since)? {
        Some((events, more)) => Ok(page(&events, more, false)),
        None => Ok(page(&[], false, true)),
    }
}

/// The events after `since`, numbered for this feed; none where they were trimmed.
fn events_since(
    step: &Step<'_>,
    head: Head,
    since: u64,
) -> Result<Option<(Vec<Event>, bool)>, Halt> {
    let mut events: Vec<Event> = Vec::new();
    let mut bytes = 0;
    let marks = step.stored().rows(
        &Key::FeedAt(head.log, since + 1),
        &Key::FeedAt(head.log, u64::MAX),
        EVENTS_MAX,
    )?;
    for (_, row) in marks {
        let Row::At(number) = row else { continue };
        let Some(turn) = step.stored().turn(number)? else { return Ok(None) };
        for event in &turn.events {
            let Some(feed) = event.feeds.iter().find(|feed| feed.head.log == head.log) else {
                continue;
            };
            if feed.head.seq <= since + events.len() as u64 {
                continue;
            }
            bytes += 200 + event.value.to_string().len() + event.old.to_string().len();
            if events.len() >= EVENTS_MAX || (bytes > PAGE_BYTES_MAX && !events.is_empty()) {
                return Ok(Some((events, true)));
            }
            events.push(event.outward(feed.head));
        }
    }
    let more = since + (events.len() as u64) < head.seq;
    if more && events.is_empty() {
        return Ok(None);
    }
    Ok(Some((events, more)))
}

/// Stores what a followed feed told, without gaps and each event once.
pub(super) fn store(step: &mut Step<'_>) -> Result<Json, Halt> {
    step.check_operator()?;
    let bad = |says: &str| Halt::from(Problem::new(Code::Usage, says));
    let server: ServerId =
        step.word("server").parse().map_err(|_| bad("the server's id is none"))?;
    let page = step.arg("page");
    let field = |name: &str| page.get(name).cloned().unwrap_or_default();
    let world: WorldId =
        serde_json::from_value(field("world")).map_err(|_| bad("the page names no world"))?;
    let head: Head =
        serde_json::from_value(field("head")).map_err(|_| bad("the page has no head"))?;
    let events: Vec<Event> =
        serde_json::from_value(field("events")).map_err(|_| bad("the page's events are none"))?;
    let held = step.stored().following(server, world)?;
    let same = held.filter(|held| held.log == head.log && field("resync") != Json::Bool(true));
    let mut seq = same.map_or(head.seq, |held| held.seq);
    for event in events {
        if event.head.log == head.log
            && event.head.seq == seq + 1
            && event.world == world
            && event.origin == server
        {
            seq = event.head.seq;
            if let Some(attribute) = &event.attribute {
                let touched = Touched {
                    world,
                    element: event.element,
                    attribute: attribute.clone(),
                    head: event.head,
                };
                for (key, row) in outdated(step.stored(), server, &touched)? {
                    step.put(key, row)?;
                }
            }
            step.store_event(Event { feeds: Vec::new(), by: None, ..event });
        }
    }
    let following = Following { server, world, log: head.log, seq };
    step.put(Key::Following(server, world), Row::Following(Arc::new(following)))?;
    Ok(json!({"seq": seq, "head": head.seq}))
}
