//! Bare request-response between two swarms: a length, then bytes that nobody reads.
//!
//! Each side has a thread and a runtime of its own, so that nothing has to wake another thread
//! within a side.

use std::io;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, StreamExt};
use libp2p::request_response::{self, Event, Message, ProtocolSupport};
use libp2p::swarm::SwarmEvent;
use libp2p::{Multiaddr, PeerId, StreamProtocol, Swarm, SwarmBuilder, noise, tcp, yamux};
use tokio::runtime::{Builder, Runtime};

use super::rounds::Fault;

/// Bytes of a call as it travels.
const CALL_BYTES: usize = 250;
/// Bytes of the answer to a call.
const ANSWER_BYTES: usize = 100;

const PROTOCOL: StreamProtocol = StreamProtocol::new("/freehold-floor/1");
const LISTEN: [&str; 2] = ["/ip4/127.0.0.1/udp/0/quic-v1", "/ip4/127.0.0.1/tcp/0"];
/// Bytes before a body.
const HEAD: usize = 4;
/// Bytes of a body at most.
const BODY_MAX: usize = 1024 * 1024;
/// Streams of a connection at the same time.
const STREAMS_MAX: usize = 512;
/// How long an exchange may take.
const EXCHANGE_MAX: Duration = Duration::from_secs(30);
/// How long a connection may be silent while the others are measured.
const SILENCE_MAX: Duration = Duration::from_secs(3_600);

/// A length and as many bytes behind it, as they stand on the wire.
#[derive(Clone, Debug)]
struct Frame(Vec<u8>);

impl Frame {
    fn of(body: usize, filling: u8) -> Self {
        let mut bytes = vec![filling; HEAD + body];
        let length = u32::try_from(body).unwrap_or(u32::MAX);
        bytes[..HEAD].copy_from_slice(&length.to_be_bytes());
        Self(bytes)
    }

    fn body(&self) -> usize {
        self.0.len() - HEAD
    }
}

/// Reads and writes frames.
#[derive(Clone, Copy, Debug, Default)]
struct FrameCodec;

type Exchange = request_response::Behaviour<FrameCodec>;

async fn read<T: AsyncRead + Unpin + Send>(stream: &mut T) -> io::Result<Frame> {
    let mut head = [0; HEAD];
    stream.read_exact(&mut head).await?;
    let body = u32::from_be_bytes(head) as usize;
    if body > BODY_MAX {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut bytes = vec![0; HEAD + body];
    bytes[..HEAD].copy_from_slice(&head);
    stream.read_exact(&mut bytes[HEAD..]).await?;
    Ok(Frame(bytes))
}

impl request_response::Codec for FrameCodec {
    type Protocol = StreamProtocol;
    type Request = Frame;
    type Response = Frame;

    async fn read_request<T>(&mut self, _: &StreamProtocol, stream: &mut T) -> io::Result<Frame>
    where
        T: AsyncRead + Unpin + Send,
    {
        read(stream).await
    }

    async fn read_response<T>(&mut self, _: &StreamProtocol, stream: &mut T) -> io::Result<Frame>
    where
        T: AsyncRead + Unpin + Send,
    {
        read(stream).await
    }

    async fn write_request<T>(
        &mut self,
        _: &StreamProtocol,
        stream: &mut T,
        request: Frame,
    ) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        stream.write_all(&request.0).await
    }

    async fn write_response<T>(
        &mut self,
        _: &StreamProtocol,
        stream: &mut T,
        response: Frame,
    ) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        stream.write_all(&response.0).await
    }
}

/// A runtime for one side.
pub(crate) fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

fn swarm() -> Result<Swarm<Exchange>, Fault> {
    let swarm = SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)?
        .with_quic()
        .with_behaviour(|_| {
            let config = request_response::Config::default()
                .with_request_timeout(EXCHANGE_MAX)
                .with_max_concurrent_streams(STREAMS_MAX);
            Exchange::new([(PROTOCOL, ProtocolSupport::Full)], config)
        })?
        .with_swarm_config(|config| {
            config
                .with_idle_connection_timeout(SILENCE_MAX)
                .with_max_negotiating_inbound_streams(STREAMS_MAX)
        })
        .build();
    Ok(swarm)
}

/// Where the server is.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    peer: PeerId,
    addresses: Vec<Multiaddr>,
}

impl Server {
    /// Its address with this word in it.
    fn address(&self, word: &str) -> Option<&Multiaddr> {
        self.addresses.iter().find(|address| address.to_string().contains(word))
    }
}

/// Starts the server on a thread of its own. It ends with the process.
pub(crate) fn serve() -> Result<Server, Fault> {
    let (ready, started) = sync_channel(1);
    thread::Builder::new().name("server".to_owned()).spawn(move || {
        let served = match runtime() {
            Ok(runtime) => runtime.block_on(answer_all(&ready)),
            Err(error) => Err(error.into()),
        };
        if let Err(error) = served {
            eprintln!("the server has ended: {error}");
        }
    })?;
    Ok(started.recv()?)
}

/// Answers each request with [`ANSWER_BYTES`] for each call in it, for ever.
async fn answer_all(ready: &SyncSender<Server>) -> Result<(), Fault> {
    let mut swarm = swarm()?;
    for address in LISTEN {
        swarm.listen_on(address.parse()?)?;
    }
    let mut server = Server { peer: *swarm.local_peer_id(), addresses: Vec::new() };
    loop {
        let event = swarm.select_next_some().await;
        if let SwarmEvent::Behaviour(Event::Message {
            message: Message::Request { request, channel, .. },
            ..
        }) = event
        {
            let calls = request.body() / CALL_BYTES;
            // Who asked may be gone; that is its right.
            swarm.behaviour_mut().send_response(channel, Frame::of(calls * ANSWER_BYTES, 7)).ok();
        } else if let SwarmEvent::NewListenAddr { address, .. } = event {
            server.addresses.push(address);
            if server.addresses.len() == LISTEN.len() {
                ready.send(server.clone())?;
            }
        }
    }
}

/// The side that calls, with one connection to the server.
pub(crate) struct Client {
    swarm: Swarm<Exchange>,
    server: PeerId,
    filling: u8,
}

impl Client {
    /// Connects to the server at the address with this word in it.
    pub(crate) async fn connect(server: &Server, word: &str) -> Result<Self, Fault> {
        let mut swarm = swarm()?;
        let address = server.address(word).ok_or("the server has no such address")?;
        swarm.dial(address.clone())?;
        loop {
            let event = swarm.select_next_some().await;
            if let SwarmEvent::OutgoingConnectionError { error, .. } = event {
                return Err(error.into());
            } else if let SwarmEvent::ConnectionEstablished { peer_id, .. } = event {
                return if peer_id == server.peer {
                    Ok(Self { swarm, server: peer_id, filling: 0 })
                } else {
                    Err("somebody else answers there".into())
                };
            }
        }
    }

    /// Makes `calls` calls, `in_request` of them in each request, with so many requests in flight.
    pub(crate) async fn calls(
        &mut self,
        calls: usize,
        in_request: usize,
        in_flight: usize,
    ) -> Result<(), Fault> {
        let requests = calls / in_request;
        let (mut sent, mut answered) = (0, 0);
        while answered < requests {
            while sent < requests && sent - answered < in_flight {
                self.filling = self.filling.wrapping_add(1);
                let request = Frame::of(in_request * CALL_BYTES, self.filling);
                self.swarm.behaviour_mut().send_request(&self.server, request);
                sent += 1;
            }
            let event = self.swarm.select_next_some().await;
            if let SwarmEvent::Behaviour(Event::Message {
                message: Message::Response { response, .. },
                ..
            }) = event
            {
                if response.body() != in_request * ANSWER_BYTES {
                    return Err("an answer has another length".into());
                }
                answered += 1;
            } else if let SwarmEvent::Behaviour(Event::OutboundFailure { error, .. }) = event {
                return Err(error.into());
            } else if let SwarmEvent::ConnectionClosed { .. } = event {
                return Err("the connection was closed".into());
            }
        }
        Ok(())
    }
}
