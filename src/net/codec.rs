//! The exchange's codec: bytes in and out of streams. What does not hold comes out as a value, so
//! that it can be answered and counted.

use std::io;
use std::time::Duration;

use futures::prelude::*;
use libp2p::StreamProtocol;
use libp2p::request_response::Codec;

use crate::wire::{
    FRAME_HEAD, MessageKind, Request, Response, WireFault, decode_request, decode_response,
    encode_request, encode_response, parse_head,
};

/// Time that one message may take on its way in.
const MESSAGE_TIME_MAX: Duration = Duration::from_secs(5);
/// Bytes that are read at once, so that a length that is only claimed costs nothing.
const PIECE: usize = 16 * 1024;

/// Reads and writes frames.
#[derive(Clone, Debug, Default)]
pub(super) struct Exchange;

async fn read_frame<T>(io: &mut T) -> Result<(MessageKind, Vec<u8>), WireFault>
where
    T: AsyncRead + Unpin + Send,
{
    let mut head = [0; FRAME_HEAD];
    io.read_exact(&mut head).await.map_err(|_| WireFault::HalfSent)?;
    let (kind, length) = parse_head(head)?;
    // Many that are half sent must not take more than their bytes: nothing grows by being copied.
    let mut pieces = Vec::new();
    for start in (0..length).step_by(PIECE) {
        let mut piece = vec![0; PIECE.min(length - start)];
        io.read_exact(&mut piece).await.map_err(|_| WireFault::HalfSent)?;
        pieces.push(piece);
    }
    let mut more = [0; 1];
    match io.read(&mut more).await {
        Ok(0) | Err(_) => Ok((kind, pieces.concat())),
        Ok(_) => Err(WireFault::Trailing),
    }
}

async fn in_time<T>(read: impl Future<Output = Result<T, WireFault>>) -> Result<T, WireFault> {
    tokio::time::timeout(MESSAGE_TIME_MAX, read).await.unwrap_or(Err(WireFault::HalfSent))
}

impl Codec for Exchange {
    type Protocol = StreamProtocol;
    type Request = Result<Request, WireFault>;
    type Response = Result<Response, WireFault>;

    async fn read_request<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Self::Request>
    where
        T: AsyncRead + Unpin + Send,
    {
        let frame = in_time(read_frame(io)).await;
        Ok(frame.and_then(|(kind, body)| decode_request(kind, &body)))
    }

    async fn read_response<T>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
    ) -> io::Result<Self::Response>
    where
        T: AsyncRead + Unpin + Send,
    {
        // How long an answer may take is for the caller to say; here only its bytes are bounded.
        let frame = read_frame(io).await;
        Ok(frame.and_then(|(kind, body)| decode_response(kind, &body)))
    }

    async fn write_request<T>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        request: Self::Request,
    ) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        let request = request.map_err(|fault| io::Error::other(fault.to_string()))?;
        io.write_all(&encode_request(&request)).await?;
        io.close().await
    }

    async fn write_response<T>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        response: Self::Response,
    ) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        let response = response.map_err(|fault| io::Error::other(fault.to_string()))?;
        io.write_all(&encode_response(&response)).await?;
        io.close().await
    }
}
