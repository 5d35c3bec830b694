//! What goes from here to other servers and back: questions, batches, answers.

use std::time::Duration;

use tokio::sync::oneshot;
use tracing::debug;

use super::greet::hello_address;
use super::{AskReply, Hub, HubMessage, Meeting, Waiting};
use crate::catalog;
use crate::model::{
    AccountId, Call, Code, Json, Problem, Question, Root, ServerId, Snapshot, Timestamp,
};
use crate::net::{self, Lost};
use crate::node::clock;
use crate::node::engine::Engine;
use crate::post::{Arrival, AskOut, Door, Effect as PostEffect, InboundEffect, Input as PostInput};
use crate::trust::{TOKEN_LIFE_MS, UserClaim, issue_user};
use crate::turn::{Input, Told};
use crate::wire::{self, Advance, Batch, Request, Response, TellAnswer, WireFault};

impl Hub {
    pub(super) fn ask(
        &mut self,
        question: Question,
        claim: Option<AccountId>,
        root: Root,
        deadline_at: Timestamp,
        reply: AskReply,
    ) {
        let token = self.next_token;
        self.next_token += 1;
        self.asks.insert(token, reply);
        match question {
            Question::Ask { server, command, args, patience_ms, user, by_action } => {
                let Some(root) = passed_on(root, self.ground.setting.us) else {
                    let says = "the call passed too many servers";
                    self.answer(token, Err(Problem::new(Code::ScriptBudget, says)));
                    return;
                };
                let patience = patience_ms.map(|ms| clock::now().after_ms(ms));
                let until = patience.map_or(deadline_at, |at| at.min(deadline_at));
                let claim = claim.filter(|_| !by_action);
                let ask = AskOut { token, command, args, claim, root, until, user };
                self.post(PostInput::Asked(server, ask));
            }
            Question::Meet(name) => {
                self.meetings.push(Meeting { name, deadline_at, token });
                self.end_meetings(clock::now());
            }
            // It waits in the inbox.
            Question::Person { .. } => {
                self.asks.remove(&token);
            }
            Question::Find(account) => {
                self.finding.insert(token, token);
                self.command(net::Command::FindProviders(token, account.as_bytes().to_vec()));
            }
        }
    }

    pub(super) fn answer(&mut self, token: u64, result: Result<Json, Problem>) {
        match self.asks.remove(&token) {
            Some(AskReply::Caller(reply)) => {
                // The caller may have stopped waiting; that is its right.
                reply.send(result).ok();
            }
            Some(AskReply::Job(job, need)) => {
                let input =
                    Input::Answered { job, place: need.place, question: need.question, result };
                self.offer(input, true);
            }
            Some(AskReply::Pull(server, world)) => self.pulled(server, world, result),
            None => {}
        }
    }

    /// Lets an input wait for the turns; it goes with what else came together.
    pub(super) fn offer(&mut self, input: Input, listed: bool) {
        self.offers.push((input, listed));
    }

    /// What to do with an input for which the turns had no room.
    pub(super) fn no_room(&mut self, input: Input, problem: Problem) {
        match input {
            Input::Told { ticket, .. } => {
                let effect = self.inbound.told(ticket, TellAnswer::Fault(problem));
                self.come(effect);
            }
            // Nobody offers these again but we.
            Input::Answered { .. } | Input::Unanswered { .. } => {
                tokio::spawn(offer_until_taken(self.ground.engine.clone(), input));
            }
            // These are offered again by who found them out.
            Input::Settled { .. }
            | Input::Undelivered { .. }
            | Input::Advanced { .. }
            | Input::Called { .. } => {}
        }
    }

    pub(super) fn post(&mut self, input: PostInput) {
        let effects = self.outbound.handle(clock::now(), input);
        for effect in effects {
            self.deliver(effect);
        }
    }

    /// Lets out what waits: for the turns, for other servers, and for the threads that read.
    pub(super) fn flush(&mut self) {
        let offers = std::mem::take(&mut self.offers);
        if !offers.is_empty()
            && let Err((inputs, problem)) = self.ground.engine.offer(offers)
        {
            for (input, _) in inputs {
                self.no_room(input, problem.clone());
            }
        }
        self.vouch();
        for effect in self.outbound.flush(clock::now()) {
            self.deliver(effect);
        }
        let reads = std::mem::take(&mut self.reads);
        let (quick, long): (Vec<_>, Vec<_>) = reads.into_iter().partition(|(_, _, call)| {
            catalog::find(&call.command).is_some_and(catalog::Command::is_quick)
        });
        for read in long {
            self.read_for(vec![read]);
        }
        if !quick.is_empty() {
            self.read_for(quick);
        }
    }

    /// Gives our word for the accounts of ours for which something leaves.
    fn vouch(&mut self) {
        let now = clock::now();
        for (server, account) in self.outbound.unvouched(now) {
            let word = self.word_for(server, account, now);
            self.outbound.vouch(server, account, word);
        }
    }

    fn word_for(
        &self,
        server: ServerId,
        account: AccountId,
        now: Timestamp,
    ) -> Option<(Vec<u8>, Timestamp)> {
        let view = self.ground.readers.store.view().ok()?;
        (&view as &dyn Snapshot).account(account).ok()??;
        let mut nonce = [0; 16];
        getrandom::fill(&mut nonce).ok()?;
        let ends_at = now.after_ms(TOKEN_LIFE_MS);
        let setting = &self.ground.setting;
        let claim = UserClaim {
            issuer: setting.us,
            subject: account,
            // Our own calls are made by us.
            holder: setting.keys.public(),
            audience: server,
            scope: Vec::new(),
            nonce,
            issued_at: now,
            ends_at,
        };
        Some((issue_user(&setting.keys, &claim), ends_at))
    }

    pub(super) fn deliver(&mut self, effect: PostEffect) {
        match effect {
            PostEffect::Dial(server) => self.dial(server),
            PostEffect::Send(server, batch, content) => {
                let Some(key) = self.keys.get(&server).copied() else { return };
                let id = self.next_request;
                self.next_request += 1;
                self.waiting.insert(id, Waiting::Batch(server, batch));
                self.command(net::Command::Send(key, id, Box::new(Request::Batch(content))));
            }
            PostEffect::GiveAnswer(token, result) => self.answer(token, result),
            PostEffect::Settle(server, number, reply) => {
                for touched in &reply.touched {
                    self.feeds.heard(clock::now(), server, touched.world, touched.head);
                }
                self.offer(Input::Settled { server, number, reply }, true);
            }
            PostEffect::GiveUp(server, number, problem) => {
                self.offer(Input::Undelivered { server, number, problem }, true);
            }
            PostEffect::CallUnknown(server, number) => {
                self.offer(Input::Unanswered { server, number }, true);
            }
        }
    }

    pub(super) fn requested(
        &mut self,
        key: [u8; 32],
        id: u64,
        request: Result<Box<Request>, WireFault>,
    ) {
        match request {
            Err(fault) => {
                self.fault(key, &fault.to_string());
                let problem =
                    Problem::new(Code::BadBody, format!("the message does not hold: {fault}"));
                self.respond(id, Response::Refused(problem));
            }
            Ok(request) => match *request {
                Request::Hello(hello) => match self.meet(key, &hello) {
                    Ok(server) => {
                        let ours = self.hello(&key);
                        self.respond(id, Response::Hello(Box::new(ours)));
                        self.met(key, server, &hello_address(&self.peers, &key), &hello);
                        self.introduced(key, server);
                    }
                    Err(problem) => self.respond(id, Response::Refused(problem)),
                },
                Request::Batch(batch) => self.batch(key, id, *batch),
                Request::Unknown(kind) => {
                    // Not a fault: a later version may know more than we do.
                    let says = format!("messages of kind {kind} are not known to this version");
                    self.respond(id, Response::Refused(Problem::new(Code::UnknownCommand, says)));
                }
            },
        }
    }

    pub(super) fn respond(&self, id: u64, response: Response) {
        self.command(net::Command::Respond(id, Box::new(response)));
    }

    pub(super) fn batch(&mut self, key: [u8; 32], id: u64, batch: wire::Batch) {
        let Some(server) = self.peers.get(&key).and_then(|peer| peer.server) else {
            self.respond(id, Response::Refused(Problem::new(Code::Refused, "say hello first")));
            return;
        };
        let announced = self.peers.get(&key).and_then(|peer| peer.incarnation);
        let is_stored = self
            .entries
            .get(&server)
            .is_some_and(|entry| Some(entry.incarnation) == announced && entry.key == key);
        if !is_stored {
            // Its entry is on its way to the store; what it tells has no lane before that.
            let problem =
                Problem::new(Code::Busy, "the hello is not stored yet").with("retry_after_ms", 50);
            self.respond(id, Response::Refused(problem));
            return;
        }
        let now = clock::now();
        let limit =
            self.entries.get(&server).and_then(|entry| entry.limit).unwrap_or(self.ground.limit);
        let setting = self.ground.setting.clone();
        let our_key = setting.keys.public();
        let keys = &self.keys;
        let door = Door { us: setting.us, key: &our_key, server, server_key: &key, limit, keys };
        let effects = self.inbound.received(now, door, id, batch);
        for _ in 0..self.inbound.take_bad_words(server) {
            self.fault(key, "bad_token");
        }
        let (calls_made, over_limit) = self.inbound.counted(now, server);
        self.note(server, |contact| {
            contact.last_at = Some(now);
            contact.calls_made = calls_made;
            contact.over_limit = over_limit;
        });
        for effect in effects {
            self.come(Some(effect));
        }
    }

    pub(super) fn come(&mut self, effect: Option<InboundEffect>) {
        match effect {
            None => {}
            Some(InboundEffect::Run(arrival)) => self.run_arrival(*arrival),
            Some(InboundEffect::Advance(server, incarnation, done_below)) => {
                self.offer(Input::Advanced { server, incarnation, done_below }, true);
            }
            Some(InboundEffect::Report(server, report)) => {
                self.post(PostInput::Reported(server, report))
            }
            Some(InboundEffect::News(server, notice)) => self.news(server, notice),
            Some(InboundEffect::Act(server, act)) => self.acted(server, act),
            Some(InboundEffect::Parting(server)) => self.contact_lost(server, true),
            Some(InboundEffect::Respond(id, answer)) => self.respond(id, Response::Batch(answer)),
        }
    }

    pub(super) fn run_arrival(&mut self, arrival: Arrival) {
        let ticket = arrival.ticket;
        let server = arrival.call.caller.server();
        if let (Some((incarnation, number, digest)), Some(server)) = (arrival.told, server) {
            let told = Told {
                server,
                incarnation,
                number,
                digest,
                call: arrival.call,
                refused: arrival.refused,
            };
            self.offer(Input::Told { ticket, told: Box::new(told) }, arrival.listed);
            return;
        }
        if let Some(problem) = arrival.refused {
            let effect = self.inbound.asked(ticket, Err(problem));
            self.come(effect);
            return;
        }
        if let Some(server) = server {
            self.reads.push((ticket, server, arrival.call));
        }
    }

    pub(super) fn read_for(&self, reads: Vec<(u64, ServerId, Call)>) {
        let readers = self.ground.readers.clone();
        let asker = self.ground.asker.clone();
        let hub = self.ground.hub.clone();
        tokio::spawn(async move {
            let ran = reads.into_iter().map(async |(ticket, server, call)| {
                let pull = call.command == "feed.pull";
                let result = readers.read(call, &asker).await;
                if let (true, Ok(page)) = (pull, &result)
                    && let Some(world) = page.get("world").and_then(Json::as_str)
                    && let Ok(world) = world.parse()
                {
                    hub.send(HubMessage::PulledBy(server, world)).await.ok();
                }
                (ticket, result)
            });
            let results = futures::future::join_all(ran).await;
            hub.send(HubMessage::Asked(results)).await.ok();
        });
    }

    /// Sends an empty batch, to see how long that takes.
    pub(super) fn exchange_nothing(&mut self, server: ServerId, reply: oneshot::Sender<()>) {
        let Some(key) = self.keys.get(&server).copied() else { return };
        if self.peers.get(&key).is_none_or(|peer| peer.server.is_none()) {
            return;
        }
        let incarnation = self.ground.incarnation;
        let nothing = Batch::empty(Advance { incarnation, done_below: 0 });
        let id = self.next_request;
        self.next_request += 1;
        self.waiting.insert(id, Waiting::Nothing(reply));
        self.command(net::Command::Send(key, id, Box::new(Request::Batch(Box::new(nothing)))));
    }

    pub(super) fn responded(
        &mut self,
        key: [u8; 32],
        id: u64,
        result: Result<Box<Response>, Lost>,
    ) {
        match (self.waiting.remove(&id), result) {
            (Some(Waiting::Hello), Ok(response)) => self.answered_hello(key, *response),
            (Some(Waiting::Hello), Err(lost)) => self.no_hello(key, &lost),
            (Some(Waiting::Batch(server, batch)), Ok(response)) => match *response {
                Response::Batch(answer) => {
                    let now = clock::now();
                    self.note(server, |contact| contact.last_at = Some(now));
                    self.post(PostInput::Answered(server, batch, answer));
                }
                Response::Refused(problem) => {
                    debug!(says = problem.says, "a batch was refused");
                    self.post(PostInput::Lost(server, batch));
                }
                Response::Hello(_) | Response::Unknown(_) => {
                    self.post(PostInput::Lost(server, batch))
                }
            },
            (Some(Waiting::Batch(server, batch)), Err(lost)) => {
                if let Lost::Fault(fault) = lost {
                    self.fault(key, &fault.to_string());
                }
                self.post(PostInput::Lost(server, batch));
            }
            (Some(Waiting::Nothing(reply)), Ok(_)) => {
                // Whoever measures may have stopped.
                reply.send(()).ok();
            }
            (Some(Waiting::Nothing(_)), Err(_)) | (None, _) => {}
        }
    }
}

/// Offers the turns what must not be lost, until there is room for it.
pub(super) async fn offer_until_taken(engine: Engine, input: Input) {
    let mut offers = vec![(input, true)];
    let mut pause = Duration::from_millis(50);
    while let Err((left, _)) = engine.offer(offers) {
        if pause > Duration::from_secs(30) {
            return;
        }
        offers = left;
        tokio::time::sleep(pause).await;
        pause *= 2;
    }
}

/// A root as the next server sees it: one more on its path, one less to pass.
fn passed_on(mut root: Root, us: ServerId) -> Option<Root> {
    root.budget.hops = root.budget.hops.checked_sub(1)?;
    root.path.push(us);
    Some(root)
}
