//! `freehold bench`: measures calls of an action through the running node, beside exchanges with
//! its server that say nothing.

use std::time::{Duration, Instant};

use clap::ArgMatches;
use serde_json::json;

use super::show::Output;
use super::{Globals, Wish, client};
use crate::model::{Code, Json, Problem};

/// Exchanges that are measured beside the calls, at most.
const EXCHANGES_MAX: u64 = 1_000;
/// Calls at the same time, at most.
const IN_FLIGHT_MAX: u64 = 1_024;

#[expect(clippy::disallowed_methods, reason = "measuring time is what it is for")]
fn now() -> Instant {
    Instant::now()
}

pub(super) async fn run(
    globals: &Globals,
    output: Output,
    matches: &ArgMatches,
) -> Result<Wish, Problem> {
    let text = |name: &str| matches.get_one::<String>(name).cloned().unwrap_or_default();
    let (element, action) = (text("element"), text("action"));
    let calls = matches.get_one::<u64>("calls").copied().unwrap_or(1_000).max(1);
    let in_flight =
        matches.get_one::<u64>("in-flight").copied().unwrap_or(16).clamp(1, IN_FLIGHT_MAX);
    let call = json!({
        "command": "action.call",
        "args": {"element": element, "action": action},
        "caller": globals.account,
        "world": globals.world,
        "timeout_ms": globals.timeout_ms,
    });
    // The first one also shows whether it can be done at all.
    client(globals).call(&call, globals.timeout_ms / 1_000).await?;
    let begun = now();
    let workers: Vec<_> = (0..in_flight)
        .map(|worker| {
            let count = calls / in_flight + u64::from(worker < calls % in_flight);
            let (globals, call) = (globals.clone(), call.clone());
            tokio::spawn(async move { work(&globals, &call, count).await })
        })
        .collect();
    let mut times = Vec::new();
    let mut failed = 0_u64;
    for worker in workers {
        let (worker_times, worker_failed) =
            worker.await.map_err(|error| Problem::new(Code::Internal, error.to_string()))?;
        times.extend(worker_times);
        failed += worker_failed;
    }
    let elapsed = begun.elapsed();
    times.sort();
    let at = |share: f64| {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a share of a length"
        )]
        let index = (times.len() as f64 * share) as usize;
        times
            .get(index.min(times.len().saturating_sub(1)))
            .map(|time: &Duration| time.as_secs_f64() * 1_000.0)
    };
    let bare = bare_exchange(globals, &element, calls).await?;
    let measured = json!({
        "calls": times.len(),
        "failed": failed,
        "in_flight": in_flight,
        "seconds": elapsed.as_secs_f64(),
        "per_second": times.len() as f64 / elapsed.as_secs_f64(),
        "p50_ms": at(0.50),
        "p99_ms": at(0.99),
        "bare_exchange": bare,
    });
    output.show("bench", &measured);
    Ok(Wish::Exit(u8::from(failed > 0)))
}

/// What exchanges cost with the server that the element is at, one after another; null where it is
/// here.
async fn bare_exchange(globals: &Globals, element: &str, calls: u64) -> Result<Json, Problem> {
    let server = element.split_once('@').and_then(|(_, at)| at.split('/').next());
    let Some(server) = server else { return Ok(Json::Null) };
    let ping = json!({
        "command": "peer.ping",
        "args": {"server": server, "times": calls.min(EXCHANGES_MAX)},
        "timeout_ms": globals.timeout_ms,
    });
    let answer = client(globals).call(&ping, globals.timeout_ms / 1_000).await?;
    Ok(answer.body.get("result").cloned().unwrap_or_default())
}

async fn work(globals: &Globals, call: &Json, count: u64) -> (Vec<Duration>, u64) {
    let client = client(globals);
    let mut times = Vec::new();
    let mut failed = 0;
    for _ in 0..count {
        let begun = now();
        match client.call(call, globals.timeout_ms / 1_000).await {
            Ok(answer) if answer.status == 200 => times.push(begun.elapsed()),
            Ok(_) | Err(_) => failed += 1,
        }
    }
    (times, failed)
}
