//! A node: started, called, stopped.

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{broadcast, mpsc, oneshot};
use tracing::{info, warn};

use super::clock;
use super::command::{self, Origin};
use super::engine::{self, Engine, Ground, Outlet, Threads};
use super::home::{ApiFile, Home, HomeError};
use super::hub::{Hub, HubGround, HubMessage, Known, QUEUE_MAX, root_of};
use super::identity::identity;
use super::pinned::Pinned;
use super::reader::{Asker, Readers};
use crate::catalog::{self, Mode};
use crate::commands;
use crate::model::{
    AccountId, Bootstrap, Call, Caller, Changes, Code, DEADLINE_DEFAULT_MS, DEADLINE_MAX_MS,
    Damaged, Event, Head, JobId, Json, Key, Need, Problem, Row, ServerId, Settings, Snapshot,
    Strangers, TicketText, Whereabouts,
};
use crate::net::{self, NetConfig, StartNetError};
use crate::step::{Setting, account_by, only_account};
use crate::store::{Folder, OpenError, Store};
use crate::trust::{Verified, decode_record};
use crate::turn::{Effect, Input};

/// MiB of the cache at most, whatever the settings say.
const CACHE_MIB_MAX: u64 = 1_024 * 1_024;
/// Events that a reader may lag behind before it must start anew.
const LIVE_MAX: usize = 4_096;
/// Calls that somebody waits for.
const WAITERS_MAX: usize = 16_384;
/// How often it is looked whether the machine's clock has jumped.
const CLOCK_LOOK: Duration = Duration::from_secs(10);
/// How often what waits for the cache's file is written.
const CACHE_FLUSH: Duration = Duration::from_millis(500);
/// Turns that are read for somebody who resumes the stream of events.
const BACKLOG_TURNS_MAX: usize = 4_096;

/// How a node is started. What is none comes from the settings, else is the default.
#[derive(Clone, Debug, Default)]
pub struct StartOptions {
    /// The folder of the node.
    pub home: PathBuf,
    /// Multiaddrs to listen on.
    pub listen: Vec<String>,
    /// A bootstrap file.
    pub bootstrap: Option<PathBuf>,
    /// The name it claims; kept from the first start.
    pub name: Option<String>,
    /// Where the API is to listen. The node does not listen there itself; it only says so.
    pub api: Option<String>,
}

/// A node cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Its home cannot be used.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// Its store cannot be opened.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// Its network cannot be started.
    #[error(transparent)]
    Net(#[from] StartNetError),
    /// Something stored is damaged.
    #[error(transparent)]
    Damaged(#[from] Damaged),
    /// The settings name something that is none.
    #[error("{0}")]
    Setting(String),
    /// Something else.
    #[error("{0}")]
    Other(String),
}

impl From<StartError> for Problem {
    fn from(error: StartError) -> Self {
        let says = error.to_string();
        match error {
            StartError::Home(HomeError::Held { .. }) => {
                Self::new(Code::AlreadyRunning, says).hint("stop it with: freehold stop")
            }
            StartError::Home(HomeError::KeyIsOpen { path, .. }) => Self::new(Code::Usage, says)
                .hint(format!("if nobody has read it: chmod 600 {}", path.display())),
            StartError::Home(HomeError::Settings { .. }) | StartError::Setting(_) => {
                Self::new(Code::Usage, says)
            }
            StartError::Home(HomeError::NoKey { .. } | HomeError::Io { .. }) => {
                Self::new(Code::Usage, says)
            }
            StartError::Store(OpenError::Damaged { .. }) | StartError::Damaged(_) => {
                Self::new(Code::Damaged, says)
                    .hint("nothing was overwritten; put a backup in its place")
            }
            StartError::Store(OpenError::InUse(_)) => Self::new(Code::AlreadyRunning, says),
            StartError::Store(OpenError::Newer { .. } | OpenError::Io { .. }) => {
                Self::new(Code::Internal, says)
            }
            StartError::Net(StartNetError::InUse(_)) => Self::new(Code::AddressInUse, says)
                .hint("name another with --listen, or none for any port"),
            StartError::Net(StartNetError::BadAddress(_)) => {
                Self::new(Code::Usage, says).hint("write it as /ip4/0.0.0.0/udp/4750/quic-v1")
            }
            StartError::Net(StartNetError::Other(_)) | StartError::Other(_) => {
                Self::new(Code::Internal, says)
            }
        }
    }
}

/// A call as it comes from outside.
#[derive(Clone, Debug)]
pub struct Request {
    /// The command's name, daily word or id.
    pub command: String,
    /// Its arguments, an object.
    pub args: Json,
    /// Who sent it.
    pub origin: Origin,
    /// The account it is to be made as.
    pub caller: Option<String>,
    /// The world it is meant for.
    pub world: Option<String>,
    /// Echoed untouched.
    pub meta: Json,
    /// How long it is worth doing, in milliseconds.
    pub timeout_ms: Option<u64>,
    /// The same key is the same call.
    pub idempotency: Option<String>,
}

/// What becomes of a call.
#[derive(Clone, Debug)]
pub enum Answer {
    /// It is done; reading calls have no job.
    Done {
        /// The job.
        job: Option<JobId>,
        /// What it gave back.
        result: Json,
    },
    /// It was taken, and has not ended.
    Taken(JobId),
}

enum Progress {
    Started,
    Repeats(JobId),
    Ended(Result<Json, Problem>),
}

type Waiters = Mutex<HashMap<JobId, mpsc::Sender<Progress>>>;

/// What the commit's thread tells.
struct Outside {
    waiters: Arc<Waiters>,
    live: broadcast::Sender<Arc<Event>>,
    hub: mpsc::Sender<HubMessage>,
    read_only: Arc<AtomicBool>,
}

impl Outside {
    fn end(&self, job: JobId, result: Result<Json, Problem>) {
        let waiter = self.waiters.lock().unwrap_or_else(PoisonError::into_inner).remove(&job);
        if let Some(waiter) = waiter {
            // Whoever asked may have gone.
            waiter.try_send(Progress::Ended(result)).ok();
        }
    }

    fn progress(&self, job: JobId, progress: Progress) {
        let waiters = self.waiters.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(waiter) = waiters.get(&job) {
            waiter.try_send(progress).ok();
        }
    }
}

/// Whether the hub has something to do with a changed row.
fn concerns_hub(key: &Key) -> bool {
    matches!(
        key,
        Key::Server(_)
            | Key::Protection(..)
            | Key::Type(_)
            | Key::Following(..)
            | Key::Guest(_)
            | Key::Presence(_)
    )
}

impl Outlet for Outside {
    fn let_out(&self, changes: &Changes, effects: Vec<Effect>) {
        let mut outward = Vec::new();
        for effect in effects {
            match effect {
                Effect::End(job, result) => self.end(job, result),
                Effect::Started(job) => self.progress(job, Progress::Started),
                Effect::Repeats(job, held) => self.progress(job, Progress::Repeats(held)),
                Effect::Show(events) => {
                    for event in &events {
                        // Nobody may be listening.
                        self.live.send(Arc::new(event.clone())).ok();
                    }
                    outward.push(Effect::Show(events));
                }
                effect => outward.push(effect),
            }
        }
        let changed: Changes = changes
            .iter()
            .filter(|(key, _)| concerns_hub(key))
            .map(|(key, change)| (key.clone(), change.clone()))
            .collect();
        if !outward.is_empty() || !changed.is_empty() {
            // The hub never waits for the turns, so this ends.
            self.hub.blocking_send(HubMessage::Effects(outward, changed)).ok();
        }
    }

    fn read_only(&self, read_only: bool) {
        self.read_only.store(read_only, Ordering::Relaxed);
    }

    fn reopened(&self) {
        self.hub.blocking_send(HubMessage::Reopened).ok();
    }

    fn drop_call(&self, job: JobId, problem: Problem) {
        self.end(job, Err(problem));
    }
}

/// Asks through the hub, and calls as the node itself.
#[derive(Clone)]
pub(super) struct HubAsker {
    hub: mpsc::Sender<HubMessage>,
    waiters: Arc<Waiters>,
    engine: Arc<std::sync::OnceLock<Engine>>,
    store: Arc<Store>,
}

impl Asker for HubAsker {
    async fn ask(&self, call: &Call, need: Need) -> (Need, Result<Json, Problem>) {
        let (reply, answer) = oneshot::channel();
        let message = HubMessage::Ask {
            need: need.clone(),
            claim: call.caller.account(),
            root: call.root.clone(),
            deadline_at: call.deadline_at,
            reply,
        };
        let stopping = || Problem::new(Code::Busy, "the node is stopping");
        if self.hub.send(message).await.is_err() {
            return (need, Err(stopping()));
        }
        let result = answer.await.unwrap_or_else(|_| Err(stopping()));
        (need, result)
    }
}

impl HubAsker {
    /// Makes a call as the node itself.
    pub(super) async fn call_as_node(&self, command: &str, args: Json) -> Result<Json, Problem> {
        self.call_as_node_within(command, args, DEADLINE_DEFAULT_MS).await
    }

    /// The same with a deadline.
    pub(super) async fn call_as_node_within(
        &self,
        command: &str,
        args: Json,
        timeout_ms: u64,
    ) -> Result<Json, Problem> {
        let call = self.call(command, args, Caller::Node, Json::Null, None, timeout_ms)?;
        self.submit(call, None, None).await.map(|answer| match answer {
            Answer::Done { result, .. } => result,
            Answer::Taken(_) => Json::Null,
        })
    }

    fn call(
        &self,
        command: &str,
        args: Json,
        caller: Caller,
        meta: Json,
        world: Option<String>,
        timeout_ms: u64,
    ) -> Result<Call, Problem> {
        let mut random = [0; 10];
        getrandom::fill(&mut random)
            .map_err(|error| Problem::new(Code::Internal, error.to_string()))?;
        let now = clock::now();
        let id = JobId::at(now, random);
        Ok(Call {
            id,
            command: command.to_owned(),
            caller,
            args,
            world,
            meta,
            reply_to: None,
            deadline_at: now.after_ms(timeout_ms.min(DEADLINE_MAX_MS)),
            root: root_of(id),
        })
    }

    /// Lets a turn take a call, and waits for its end, or for `wait`.
    async fn submit(
        &self,
        call: Call,
        idempotency: Option<[u8; 16]>,
        wait: Option<Duration>,
    ) -> Result<Answer, Problem> {
        let id = call.id;
        let (sender, mut progress) = mpsc::channel(4);
        {
            let mut waiters = self.waiters.lock().unwrap_or_else(PoisonError::into_inner);
            if waiters.len() >= WAITERS_MAX {
                return Err(Problem::new(Code::Busy, "too many calls wait already")
                    .with("retry_after_ms", 200));
            }
            waiters.insert(id, sender);
        }
        let engine =
            self.engine.get().ok_or_else(|| Problem::new(Code::Busy, "the node is starting"))?;
        let input = Input::Called { call, idempotency };
        if let Err((_, problem)) = engine.offer(vec![(input, false)]) {
            self.waiters.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
            return Err(problem);
        }
        let answer = self.wait_for(id, &mut progress, wait).await;
        self.waiters.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
        answer
    }

    async fn wait_for(
        &self,
        id: JobId,
        progress: &mut mpsc::Receiver<Progress>,
        wait: Option<Duration>,
    ) -> Result<Answer, Problem> {
        let mut started = false;
        let done = |result: Result<Json, Problem>| {
            result.map(|result| Answer::Done { job: Some(id), result })
        };
        let ended = async {
            loop {
                match progress.recv().await {
                    Some(Progress::Ended(result)) => return done(result),
                    Some(Progress::Repeats(held)) => return self.made_before(held),
                    Some(Progress::Started) => {
                        started = true;
                        if wait == Some(Duration::ZERO) {
                            std::future::pending::<()>().await;
                        }
                    }
                    None => return Err(Problem::new(Code::Busy, "the node is stopping")),
                }
            }
        };
        let result = match wait {
            None => Some(ended.await),
            // Even who does not wait is answered only once a commit has taken the call.
            Some(wait) => {
                tokio::time::timeout(wait.max(Duration::from_millis(50)), ended).await.ok()
            }
        };
        match result {
            Some(answer) => answer,
            None if started => Ok(Answer::Taken(id)),
            None => {
                // Not taken yet: that is worth waiting for, since nothing was promised.
                match progress.recv().await {
                    Some(Progress::Ended(result)) => done(result),
                    Some(Progress::Repeats(held)) => self.made_before(held),
                    Some(Progress::Started) => Ok(Answer::Taken(id)),
                    None => Err(Problem::new(Code::Busy, "the node is stopping")),
                }
            }
        }
    }

    /// What became of a call that was made before under the same key.
    fn made_before(&self, job: JobId) -> Result<Answer, Problem> {
        let held = commands::find_job(&self.store.view()?, job)?;
        match held.and_then(|held| held.result()) {
            Some(result) => result.map(|result| Answer::Done { job: Some(job), result }),
            None => Ok(Answer::Taken(job)),
        }
    }

    /// Waits until a server that was met has its entry.
    pub(super) async fn wait_for_entry(&self, server: ServerId) {
        for _ in 0..100 {
            let known = self
                .store
                .view()
                .ok()
                .and_then(|view| (&view as &dyn Snapshot).server(server).ok().flatten());
            if known.is_some() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// A running node.
pub struct Node {
    pub(super) home: Home,
    pub(super) settings: Settings,
    pub(super) setting: Arc<Setting>,
    pub(super) store: Arc<Store>,
    pub(super) readers: Arc<Readers>,
    pub(super) asker: HubAsker,
    pub(super) hub: mpsc::Sender<HubMessage>,
    pub(super) listen: Vec<String>,
    pub(super) read_only: Arc<AtomicBool>,
    pub(super) bootstrap: Bootstrap,
    pub(super) flags: StartOptions,
    pub(super) given: BTreeSet<String>,
    live: broadcast::Sender<Arc<Event>>,
    stop: tokio::sync::watch::Sender<bool>,
    threads: Mutex<Option<Threads>>,
}

impl Node {
    /// Starts a node on its home; makes what is missing at the first start.
    ///
    /// # Errors
    /// Says why it cannot be started. Nothing keeps running then.
    pub async fn start(options: StartOptions) -> Result<Arc<Self>, StartError> {
        let (home, tightened) = Home::open(&options.home)?;
        for said in tightened {
            warn!("{said}");
        }
        let (settings, given) = home.settings()?;
        let bootstrap = home.bootstrap(options.bootstrap.as_deref())?;
        let known = Known::default();
        let store = open_store(&home, known.clone())?;
        store.bound_cache(settings.cache_mib.clamp(1, CACHE_MIB_MAX) * 1024 * 1024);
        let name = options.name.clone().or_else(|| settings.name.clone());
        let (node, keys) = identity(&home, &store, name).map_err(|error| aside(&store, error))?;
        go_on_from_last(&store).map_err(|error| aside(&store, error))?;
        let time_zone = clock::time_zone(settings.time_zone.as_deref())
            .map_err(|error| StartError::Setting(format!("freehold.toml: time_zone: {error}")))?;
        let resolver = settings.resolver.as_deref().map(str::parse::<std::net::SocketAddr>);
        if let Some(Err(error)) = resolver {
            return Err(StartError::Setting(format!("freehold.toml: resolver: {error}")));
        }
        let setting = Arc::new(Setting {
            us: node.server,
            keys,
            name: node.name.clone(),
            recovery_hash: node.recovery_hash,
            time_zone,
            account: settings.account.clone(),
            record_ms: settings.record_seconds.saturating_mul(1_000),
            strangers_wait: settings.strangers == Strangers::Ask,
            limit: settings.limit(),
        });
        let listen = if options.listen.is_empty() {
            settings.listen.clone()
        } else {
            options.listen.clone()
        };
        let (listen, commands, events) =
            net::start(net_config(&setting, &settings, &bootstrap, listen)).await?;
        let (hub, inbox) = mpsc::channel(QUEUE_MAX);
        let readers =
            Arc::new(Readers::new(store.clone(), setting.clone(), commands::find, hub.clone()));
        let waiters: Arc<Waiters> = Arc::default();
        let (live, _) = broadcast::channel(LIVE_MAX);
        let read_only = Arc::new(AtomicBool::new(false));
        let outside = Outside {
            waiters: waiters.clone(),
            live: live.clone(),
            hub: hub.clone(),
            read_only: read_only.clone(),
        };
        let engine_cell = Arc::new(std::sync::OnceLock::new());
        let asker = HubAsker {
            hub: hub.clone(),
            waiters,
            engine: engine_cell.clone(),
            store: store.clone(),
        };
        let ground = Ground {
            store: store.clone(),
            setting: setting.clone(),
            table: commands::find,
            keep_ms: settings.keep_hours.max(24) * 3_600_000,
            incarnation: node.incarnation,
            mark: home.open_mark()?,
        };
        let outside: Arc<dyn Outlet> = Arc::new(outside);
        let started = tokio::task::spawn_blocking(move || engine::start(ground, outside)).await;
        let (engine, threads) = started
            .map_err(|error| StartError::Other(error.to_string()))?
            .map_err(|problem| match problem.code {
                Code::Damaged => aside(&store, StartError::Damaged(Damaged(problem.says))),
                _ => StartError::Other(problem.says),
            })?;
        engine_cell.set(engine.clone()).ok();
        let hub_task = Hub::new(HubGround {
            setting: setting.clone(),
            incarnation: node.incarnation,
            record: node.record.clone(),
            earlier: node.earlier.clone(),
            network: bootstrap.network.clone(),
            listen: listen.clone(),
            limit: settings.limit(),
            known,
            readers: readers.clone(),
            engine: engine.clone(),
            commands,
            hub: hub.clone(),
            asker: asker.clone(),
            domain: settings.domain.clone(),
            live: live.clone(),
            pinned: bootstrap.peers.iter().filter_map(Pinned::new).collect(),
        });
        tokio::spawn(hub_task.run(inbox, events));
        tokio::spawn(flush_cache(store.clone()));
        tokio::spawn(watch_clock());
        if let Err(problem) = asker.call_as_node("node.started", serde_json::json!({})).await {
            warn!(says = problem.says, "nobody could be told that the node has started");
        }
        let (stop, _) = tokio::sync::watch::channel(false);
        info!(server = %setting.us, "started");
        Ok(Arc::new(Self {
            home,
            settings,
            setting,
            store,
            readers,
            asker,
            hub,
            listen,
            read_only,
            bootstrap,
            flags: options,
            given,
            live,
            stop,
            threads: Mutex::new(Some(threads)),
        }))
    }

    /// The node's folder.
    pub fn home(&self) -> &std::path::Path {
        self.home.path()
    }

    /// The addresses as bound.
    pub fn listen(&self) -> &[String] {
        &self.listen
    }

    /// This server.
    pub fn server(&self) -> ServerId {
        self.setting.us
    }

    /// Its peer id of today.
    pub fn peer_id(&self) -> String {
        crate::model::peer_id_of(&self.setting.keys.public())
    }

    /// The address that the settings want the API to listen on.
    pub fn api_setting(&self) -> Option<&str> {
        self.settings.api.as_deref()
    }

    /// Says where the API listens.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn publish_api(&self, api: &str) -> Result<(), HomeError> {
        self.home.write_api(&ApiFile { api: api.to_owned(), pid: std::process::id() })
    }

    /// Carries out a call. With `wait`, who waits no longer is told the job instead.
    ///
    /// # Errors
    /// Why it was not done.
    pub async fn call(
        &self,
        mut request: Request,
        wait: Option<Duration>,
    ) -> Result<Answer, Problem> {
        let command = catalog::find(&request.command).filter(|command| command.is_public());
        let command = command.ok_or_else(|| unknown_command(&request.command))?;
        catalog::check_args(command, &request.args)?;
        let caller = self.caller(&request)?;
        let operator_only = command.audience == catalog::Audience::Operator;
        if operator_only && !request.origin.is_operator() {
            return Err(Problem::new(Code::NotPermitted, "only the operator may do this")
                .hint("use the control socket, or a key made with --admin"));
        }
        let timeout_ms = request.timeout_ms.unwrap_or(DEADLINE_DEFAULT_MS);
        if command.mode == Mode::Node {
            let result =
                command::run(self, command.name, &request.args, &caller, timeout_ms).await?;
            return Ok(Answer::Done { job: None, result });
        }
        if let Some(ticket) = entry_ticket(command.name, &request.args) {
            if !request.origin.is_operator() {
                return Err(Problem::new(Code::NotPermitted, "only the operator may join")
                    .hint("use the control socket, or a key made with --admin"));
            }
            let world = command::world_by_ticket(self, ticket, timeout_ms).await?;
            request.args["world"] = Json::String(world);
        }
        let call = self.asker.call(
            command.name,
            request.args,
            caller,
            request.meta,
            request.world,
            timeout_ms,
        )?;
        if command.mode == Mode::Read {
            let result = self.readers.read(call, &self.asker).await?;
            return Ok(Answer::Done { job: None, result });
        }
        let idempotency = request.idempotency.map(|key| idempotency_of(&call.caller, &key));
        self.asker.submit(call, idempotency, wait).await
    }

    fn caller(&self, request: &Request) -> Result<Caller, Problem> {
        let operator = request.origin.is_operator();
        let view = self.store.view()?;
        let stored: &dyn Snapshot = &view;
        let named = match (&request.caller, &request.origin) {
            (Some(name), _) => Some(account_named(stored, name)?),
            (None, Origin::Key(key)) if !key.admin => match key.accounts.as_slice() {
                [only] => Some(*only),
                _ => None,
            },
            (None, _) => default_account(stored, self.setting.us, self.setting.account.as_deref())?,
        };
        if let Origin::Key(key) = &request.origin
            && !key.admin
            && named.is_none_or(|account| !key.accounts.contains(&account))
        {
            let says = "this key does not act as that account";
            return Err(Problem::new(Code::NotPermitted, says)
                .hint("name one of its accounts as the caller"));
        }
        Ok(Caller::Local { account: named, operator })
    }

    /// The key that a program showed, if it is valid.
    ///
    /// # Errors
    /// A row is damaged.
    pub fn authenticate(&self, key: &str) -> Result<Option<Origin>, Damaged> {
        let view = self.store.view()?;
        Ok(commands::authenticate(&view, key, clock::now())?.map(Origin::Key))
    }

    /// Events from now on.
    pub fn live(&self) -> broadcast::Receiver<Arc<Event>> {
        self.live.subscribe()
    }

    /// Events after the one at `head`, as they are stored; none where they were trimmed.
    ///
    /// # Errors
    /// A row is damaged.
    pub fn events_after(&self, head: Head) -> Result<Option<Vec<Event>>, Damaged> {
        let view = self.store.view()?;
        let marks =
            view.rows(&Key::FeedAt(head.log, head.seq), &Key::FeedAt(head.log, u64::MAX), 1)?;
        let Some((_, Row::At(turn))) = marks.into_iter().next() else { return Ok(None) };
        let rows = view.rows(&Key::Turn(turn), &Key::Turn(u64::MAX), BACKLOG_TURNS_MAX + 1)?;
        if rows.len() > BACKLOG_TURNS_MAX
            || !matches!(rows.first(), Some((Key::Turn(first), _)) if *first == turn)
        {
            return Ok(None);
        }
        let events = rows.into_iter().flat_map(|(_, row)| match row {
            Row::Turn(turn) => turn.events.clone(),
            _ => Vec::new(),
        });
        let mut events: Vec<Event> = events.collect();
        let at = events.iter().position(|event| event.head == head);
        Ok(at.map(|at| events.split_off(at + 1)))
    }

    /// Whether an account may see an event: what happened in its own worlds, and in those followed.
    pub fn may_see(&self, origin: &Origin, event: &Event) -> bool {
        let Origin::Key(key) = origin else { return true };
        if key.admin {
            return true;
        }
        let Ok(view) = self.store.view() else { return false };
        let view: &dyn Snapshot = &view;
        if event.kind.is_fleeting() {
            return key.accounts.iter().any(|account| is_there(view, *account, event));
        }
        if event.origin != self.setting.us {
            return true;
        }
        let world = view.world(event.world).ok().flatten();
        world.is_some_and(|world| key.accounts.contains(&world.owner))
    }

    /// Follows a world of another server from now on.
    pub async fn follow(&self, server: ServerId, world: crate::model::WorldId) {
        if server != self.setting.us {
            self.hub.send(HubMessage::Follow(server, world)).await.ok();
        }
    }

    /// The number of the newest durable turn.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn turn(&self) -> Result<u64, Damaged> {
        let last = self.store.view()?.last_row(&Key::Turn(0), &Key::Turn(u64::MAX))?;
        Ok(match last {
            Some((Key::Turn(number), _)) => number,
            _ => 0,
        })
    }

    /// Whether the store takes changes.
    pub fn is_read_only(&self) -> bool {
        self.read_only.load(Ordering::Relaxed)
    }

    /// Asks the node to stop.
    pub fn ask_to_stop(&self) {
        self.stop.send(true).ok();
    }

    /// Waits until the node is asked to stop.
    pub async fn asked_to_stop(&self) {
        let mut stop = self.stop.subscribe();
        // An error would mean that the node is gone.
        stop.wait_for(|stop| *stop).await.ok();
    }

    /// Finishes what was taken, closes the stores, ends the network.
    pub async fn shut_down(&self) {
        if let Some(engine) = self.asker.engine.get() {
            let engine = engine.clone();
            let threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner).take();
            let store = self.store.clone();
            tokio::task::spawn_blocking(move || {
                engine.stop();
                if let Some(threads) = threads {
                    threads.join();
                }
                store.flush_cache();
            })
            .await
            .ok();
        }
        let (done, ended) = oneshot::channel();
        self.hub.send(HubMessage::Stop(done)).await.ok();
        tokio::time::timeout(Duration::from_secs(2), ended).await.ok();
        self.home.remove_api();
        info!("stopped");
    }
}

/// Whether an account stands in the world where something fleeting happens.
fn is_there(view: &dyn Snapshot, account: AccountId, event: &Event) -> bool {
    let presence = view.presence(account).ok().flatten();
    presence.is_some_and(|presence| match &presence.place {
        Whereabouts::Here(world) => *world == event.world,
        Whereabouts::There { server, world, .. } => {
            *server == event.origin && *world == event.world
        }
        Whereabouts::Nowhere => false,
    })
}

/// What a call's idempotency key is stored as: another caller's same key is another.
fn idempotency_of(caller: &Caller, key: &str) -> [u8; 16] {
    let mut hash = blake3::Hasher::new_derive_key("freehold 1 idempotency");
    hash.update(&caller.account().map_or([0; 16], |account| *account.as_bytes()));
    hash.update(&[u8::from(matches!(caller, Caller::Local { operator: true, .. }))]);
    hash.update(key.as_bytes());
    let mut short = [0; 16];
    short.copy_from_slice(&hash.finalize().as_bytes()[..16]);
    short
}

/// Puts a copy of a damaged store aside before anybody tries to mend it.
fn aside(store: &Store, error: StartError) -> StartError {
    match error {
        StartError::Damaged(damaged) => StartError::Store(store.keep_aside(damaged)),
        error => error,
    }
}

/// Our time is not before the newest turn's.
fn go_on_from_last(store: &Store) -> Result<(), StartError> {
    let last = store.view()?.last_row(&Key::Turn(0), &Key::Turn(u64::MAX))?;
    if let Some((_, Row::Turn(turn))) = last {
        clock::begin(turn.at);
    }
    Ok(())
}

/// Says when the machine's clock has jumped, and when that is over.
async fn watch_clock() {
    let mut has_jumped = false;
    loop {
        let jumped = clock::jumped_ms();
        match jumped {
            Some(ms) if !has_jumped => warn!(
                ms,
                "the machine's clock has jumped, and is not followed: see freehold node clock"
            ),
            None if has_jumped => info!("the machine's clock is followed again"),
            Some(_) | None => {}
        }
        has_jumped = jumped.is_some();
        tokio::time::sleep(CLOCK_LOOK).await;
    }
}

async fn flush_cache(store: Arc<Store>) {
    loop {
        tokio::time::sleep(CACHE_FLUSH).await;
        let store = store.clone();
        if store.cache_waits() {
            tokio::task::spawn_blocking(move || store.flush_cache()).await.ok();
        }
    }
}

fn unknown_command(name: &str) -> Problem {
    let problem = Problem::new(Code::UnknownCommand, format!("there is no command '{name}'"));
    match catalog::suggest(name) {
        Some(meant) => problem.hint(format!("did you mean '{meant}'?")),
        None => problem.hint("see them with: freehold --help"),
    }
}

fn account_named(stored: &dyn Snapshot, name: &str) -> Result<AccountId, Problem> {
    account_by(stored, name).map(|account| account.id)
}

fn default_account(
    stored: &dyn Snapshot,
    us: ServerId,
    setting: Option<&str>,
) -> Result<Option<AccountId>, Problem> {
    if let Some(name) = setting {
        return account_named(stored, name).map(Some);
    }
    Ok(only_account(stored, us)?.map(|only| only.id))
}

/// The ticket with which somebody wants to go into a world.
fn entry_ticket<'a>(command: &str, args: &'a Json) -> Option<&'a str> {
    let world = args.get("world").and_then(Json::as_str)?;
    (command == "world.enter" && TicketText::is_one(world)).then_some(world)
}

pub(super) fn open_store(home: &Home, known: Known) -> Result<Arc<Store>, StartError> {
    Ok(Arc::new(Store::open(Folder(home.path().to_owned()), Arc::new(known))?))
}

fn net_config(
    setting: &Setting,
    settings: &Settings,
    bootstrap: &Bootstrap,
    listen: Vec<String>,
) -> NetConfig {
    let any_port = listen.is_empty();
    let listen = if any_port {
        vec!["/ip4/0.0.0.0/tcp/4750".to_owned(), "/ip4/0.0.0.0/udp/4750/quic-v1".to_owned()]
    } else {
        listen
    };
    NetConfig {
        seed: setting.keys.seed(),
        network: bootstrap.network.clone(),
        listen,
        any_port,
        mdns: settings.mdns,
        strangers_max: settings.strangers_connections,
        judge: Arc::new(judge),
    }
}

/// A record of the network is kept where it is a server's own, and newer than the one held.
fn judge(key: &[u8], value: &[u8], held: Option<&[u8]>) -> bool {
    let record = crate::model::SignedRecord(value.to_vec());
    let held = held.and_then(|held| decode_record(&crate::model::SignedRecord(held.to_vec())).ok());
    let verified = match &held {
        Some(held) => Verified::following(&record, held),
        None => Verified::first_seen(&record),
    };
    verified
        .is_ok_and(|verified| verified.record().server_id().is_some_and(|id| id.as_bytes() == key))
}
