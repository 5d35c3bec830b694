//! Keeps every decrypted byte of every stream, below all protocols.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};

use futures::{AsyncRead, AsyncWrite};
use libp2p::core::muxing::{StreamMuxer, StreamMuxerBox, StreamMuxerEvent, SubstreamBox};

/// What came in on each stream, in the order in which the streams were opened.
#[derive(Clone, Debug, Default)]
pub(super) struct Heard(Arc<Mutex<Vec<Vec<u8>>>>);

impl Heard {
    /// What came in so far.
    pub(super) fn streams(&self) -> Vec<Vec<u8>> {
        self.0.lock().unwrap().clone()
    }

    /// A connection of which every stream is listened to.
    pub(super) fn tap(&self, inner: StreamMuxerBox) -> StreamMuxerBox {
        StreamMuxerBox::new(Tapped { inner, heard: self.clone() })
    }

    fn open(&self) -> usize {
        let mut streams = self.0.lock().unwrap();
        streams.push(Vec::new());
        streams.len() - 1
    }

    fn add(&self, stream: usize, bytes: &[u8]) {
        self.0.lock().unwrap()[stream].extend_from_slice(bytes);
    }
}

struct Tapped {
    inner: StreamMuxerBox,
    heard: Heard,
}

impl Tapped {
    fn stream(&self, inner: SubstreamBox) -> TappedStream {
        TappedStream { inner, number: self.heard.open(), heard: self.heard.clone() }
    }
}

impl StreamMuxer for Tapped {
    type Substream = TappedStream;
    type Error = io::Error;

    fn poll_inbound(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<TappedStream, io::Error>> {
        let this = self.get_mut();
        let stream = ready!(Pin::new(&mut this.inner).poll_inbound(cx))?;
        Poll::Ready(Ok(this.stream(stream)))
    }

    fn poll_outbound(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<TappedStream, io::Error>> {
        let this = self.get_mut();
        let stream = ready!(Pin::new(&mut this.inner).poll_outbound(cx))?;
        Poll::Ready(Ok(this.stream(stream)))
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), io::Error>> {
        Pin::new(&mut self.get_mut().inner).poll_close(cx)
    }

    fn poll(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<StreamMuxerEvent, io::Error>> {
        Pin::new(&mut self.get_mut().inner).poll(cx)
    }
}

struct TappedStream {
    inner: SubstreamBox,
    number: usize,
    heard: Heard,
}

impl AsyncRead for TappedStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let read = ready!(Pin::new(&mut this.inner).poll_read(cx, buffer))?;
        this.heard.add(this.number, &buffer[..read]);
        Poll::Ready(Ok(read))
    }
}

impl AsyncWrite for TappedStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_close(cx)
    }
}
