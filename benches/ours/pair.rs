//! Two real nodes in one process, joined over loopback, without HTTP: calls go in at the node's own
//! door.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use freehold::node::{Answer, Node, Origin, Request, StartOptions};
use serde_json::{Value as Json, json};
use tokio::runtime::Runtime;

use crate::floor::rounds::Fault;

const LAMP: &str = include_str!("../../examples/lamp.toml");

/// A node that calls, and one that is called.
pub(crate) struct Pair {
    runtime: Runtime,
    attic: Arc<Node>,
    kitchen: Arc<Node>,
    _folders: [tempfile::TempDir; 2],
}

fn request(command: &str, args: Json) -> Request {
    Request {
        command: command.to_owned(),
        args,
        origin: Origin::Operator,
        caller: None,
        world: None,
        meta: Json::Null,
        timeout_ms: None,
        idempotency: None,
    }
}

async fn done(node: &Node, command: &str, args: Json) -> Result<Json, Fault> {
    match node.call(request(command, args), None).await {
        Ok(Answer::Done { result, .. }) => Ok(result),
        Ok(Answer::Taken(job)) => Err(format!("{command} was taken as {job}").into()),
        Err(problem) => Err(format!("{command}: {}", problem.says).into()),
    }
}

async fn start(folder: &tempfile::TempDir, name: &str, listen: &str) -> Result<Arc<Node>, Fault> {
    let options = StartOptions {
        home: folder.path().join("home"),
        listen: vec![listen.to_owned()],
        name: Some(name.to_owned()),
        ..StartOptions::default()
    };
    Ok(Node::start(options).await?)
}

impl Pair {
    /// Starts both on this address, gives the attic a lamp, and lets the kitchen join it.
    pub(crate) fn start(listen: &str) -> Result<Self, Fault> {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let folders = [tempfile::tempdir()?, tempfile::tempdir()?];
        let (attic, kitchen) = runtime.block_on(async {
            let attic = start(&folders[0], "attic", listen).await?;
            let kitchen = start(&folders[1], "kitchen", listen).await?;
            done(&attic, "account.add", json!({"name": "alice"})).await?;
            done(&attic, "world.add", json!({"name": "alice/garden"})).await?;
            done(&attic, "type.publish", json!({"source": LAMP})).await?;
            done(&attic, "element.create", json!({"type": "lamp", "name": "lamp"})).await?;
            done(&kitchen, "peer.join", json!({"address": attic.listen()[0]})).await?;
            done(
                &attic,
                "server.limit",
                json!({"server": "kitchen", "calls": 1_000_000_000, "seconds": 60}),
            )
            .await?;
            Ok::<_, Fault>((attic, kitchen))
        })?;
        Ok(Self { runtime, attic, kitchen, _folders: folders })
    }

    /// Makes calls from the kitchen, with so many in flight.
    fn make(
        &self,
        command: &'static str,
        args: &Json,
        calls: usize,
        in_flight: usize,
    ) -> Result<(), Fault> {
        let left = Arc::new(AtomicUsize::new(calls));
        let workers: Vec<_> = (0..in_flight)
            .map(|_| {
                let (node, left, args) = (self.kitchen.clone(), left.clone(), args.clone());
                self.runtime.spawn(async move {
                    let take = || {
                        left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                            left.checked_sub(1)
                        })
                    };
                    while take().is_ok() {
                        done(&node, command, args.clone()).await?;
                    }
                    Ok::<_, Fault>(())
                })
            })
            .collect();
        self.runtime.block_on(async {
            for worker in workers {
                worker.await??;
            }
            Ok(())
        })
    }

    /// Calls of an action by script, durable at their home.
    pub(crate) fn actions(&self, calls: usize, in_flight: usize) -> Result<(), Fault> {
        let args = json!({"element": "alice@attic/garden/lamp", "action": "step"});
        self.make("action.call", &args, calls, in_flight)
    }

    /// Reads that no cache answers: the lamp's count may not be kept.
    pub(crate) fn reads(&self, calls: usize, in_flight: usize) -> Result<(), Fault> {
        let args = json!({"element": "alice@attic/garden/lamp", "attribute": "count"});
        self.make("element.get", &args, calls, in_flight)
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        self.runtime.block_on(async {
            self.kitchen.shut_down().await;
            self.attic.shut_down().await;
        });
    }
}
