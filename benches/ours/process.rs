//! Nodes that are processes of their own, and connections to their API that are kept.

use std::process::Stdio;

use freehold::api::client::Client;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value as Json, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use crate::floor::rounds::Fault;

/// How long a call has, in seconds.
const CALL_SECONDS: u64 = 30;

/// A node that runs until this is dropped.
pub(crate) struct Process {
    client: Client,
    ready: Json,
    /// An operator's key for programs.
    key: String,
    _child: Child,
    _folder: tempfile::TempDir,
}

impl Process {
    /// Starts a node of this name that nobody finds by chance.
    pub(crate) async fn start(name: String) -> Result<Self, Fault> {
        let folder = tempfile::tempdir()?;
        let home = folder.path().join("home");
        std::fs::create_dir(&home)?;
        std::fs::write(home.join("freehold.toml"), "mdns = false\n")?;
        let log = folder.path().join("log");
        let mut child = Command::new(env!("CARGO_BIN_EXE_freehold"))
            .arg("--home")
            .arg(&home)
            .args(["run", "--json", "--name", &name, "--api", "127.0.0.1:0"])
            .args(["--listen", "/ip4/127.0.0.1/udp/0/quic-v1"])
            .current_dir(folder.path())
            .env_remove("FREEHOLD_BOOTSTRAP")
            .env_remove("FREEHOLD_LOG")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(&log)?)
            .kill_on_drop(true)
            .spawn()?;
        let stdout = child.stdout.take().ok_or("the node has no output")?;
        let Some(line) = BufReader::new(stdout).lines().next_line().await? else {
            let said = std::fs::read_to_string(&log)?;
            return Err(format!("{name} did not start: {said}").into());
        };
        let ready = serde_json::from_str(&line)?;
        let client = Client::of(&home);
        let key = String::new();
        let mut process = Self { client, ready, key, _child: child, _folder: folder };
        let added = process.call(None, "key.add", json!({"name": "bench", "admin": true})).await?;
        process.key = text(&added, "key")?;
        Ok(process)
    }

    /// Makes a call over the control socket that must be done, as an account if one is named.
    pub(crate) async fn call(
        &self,
        caller: Option<&str>,
        command: &str,
        args: Json,
    ) -> Result<Json, Fault> {
        let timeout_ms = CALL_SECONDS * 1_000;
        let call =
            json!({"command": command, "caller": caller, "args": args, "timeout_ms": timeout_ms});
        match self.client.call(&call, CALL_SECONDS).await {
            Ok(answer) if answer.status == 200 => Ok(answer.body["result"].clone()),
            Ok(answer) => Err(format!("{command} was not done: {}", answer.body).into()),
            Err(problem) => Err(format!("{command}: {}", problem.says).into()),
        }
    }

    /// Its server id.
    pub(crate) fn server(&self) -> Result<String, Fault> {
        text(&self.ready, "server_id")
    }

    /// The first address at which others reach it.
    pub(crate) fn address(&self) -> Result<String, Fault> {
        let address = self.ready["listen"][0].as_str();
        Ok(address.ok_or("the node listens nowhere")?.to_owned())
    }

    /// Its process.
    pub(crate) fn pid(&self) -> Result<String, Fault> {
        Ok(self.ready["pid"].as_u64().ok_or("the node does not say its process")?.to_string())
    }
}

fn text(json: &Json, member: &str) -> Result<String, Fault> {
    Ok(json[member].as_str().ok_or_else(|| format!("there is no {member}"))?.to_owned())
}

/// A connection to the API of a node over TCP, with its key.
pub(crate) struct Door {
    sender: SendRequest<Full<Bytes>>,
    host: String,
    authorization: String,
}

impl Door {
    /// Connects.
    pub(crate) async fn open(process: &Process) -> Result<Self, Fault> {
        let host = text(&process.ready, "api")?.trim_start_matches("http://").to_owned();
        let stream = TcpStream::connect(&host).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        // It ends with the door.
        tokio::spawn(connection);
        Ok(Self { sender, host, authorization: format!("Bearer {}", process.key) })
    }

    async fn send(
        &mut self,
        method: Method,
        path: &str,
        body: String,
    ) -> Result<Response<Incoming>, Fault> {
        self.sender.ready().await?;
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", &self.host)
            .header("authorization", &self.authorization)
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(body)))?;
        Ok(self.sender.send_request(request).await?)
    }

    /// Makes a call, and says with which status it was answered.
    pub(crate) async fn call(&mut self, call: String) -> Result<u16, Fault> {
        let response = self.send(Method::POST, "/api/v1/calls", call).await?;
        let status = response.status().as_u16();
        // The connection is kept only once everything was read.
        response.into_body().collect().await?;
        Ok(status)
    }

    /// Opens the stream of events of these kinds.
    pub(crate) async fn events(mut self, kinds: &str) -> Result<Stream, Fault> {
        let path = format!("/api/v1/events?kinds={kinds}");
        let response = self.send(Method::GET, &path, String::new()).await?;
        if !response.status().is_success() {
            return Err(format!("no events: {}", response.status()).into());
        }
        Ok(Stream { body: response.into_body(), _door: self })
    }
}

/// A stream of events.
pub(crate) struct Stream {
    body: Incoming,
    _door: Door,
}

impl Stream {
    /// Hands over the JSON of each event until the stream ends, or one of them is none.
    pub(crate) async fn hear(
        mut self,
        hear: impl Fn(&[u8]) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        let mut text = Vec::new();
        while let Some(frame) = self.body.frame().await {
            let frame = frame?;
            let Some(data) = frame.data_ref() else { continue };
            text.extend_from_slice(data);
            let mut read = 0;
            while let Some(length) = text[read..].iter().position(|byte| *byte == b'\n') {
                if let Some(json) = text[read..read + length].strip_prefix(b"data: ") {
                    hear(json)?;
                }
                read += length + 1;
            }
            text.drain(..read);
        }
        Ok(())
    }
}
