//! Frames: one byte says the kind, four the length, then the body (CBOR, RFC 8949). Each kind has a
//! cap of its own, known before a byte of the body is read.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::message::{Batch, CALL_BYTES_MAX, Request, Response, WireCall};
use crate::model::{Json, bytes_of, depth_of};

/// Bytes of a frame before its body.
pub const FRAME_HEAD: usize = 5;
/// Bytes of a hello.
pub const HELLO_BYTES_MAX: usize = 8 * 1024;
/// Bytes of a batch, or of its answers.
pub const BATCH_BYTES_MAX: usize = 256 * 1024;
/// Bytes of a refusal.
const REFUSED_BYTES_MAX: usize = 8 * 1024;
/// Bytes of a user token.
const TOKEN_BYTES_MAX: usize = 2 * 1024;
/// How deep arguments and answers may be nested.
const DEPTH_MAX: usize = 24;

/// The kinds of frames.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MessageKind {
    /// A hello, either way.
    Hello,
    /// A batch or its answers.
    Batch,
    /// A refusal.
    Refused,
    /// A kind that this version does not know.
    Other(u8),
}

impl MessageKind {
    const fn byte(self) -> u8 {
        match self {
            Self::Hello => 1,
            Self::Batch => 2,
            Self::Refused => 3,
            Self::Other(byte) => byte,
        }
    }

    const fn of(byte: u8) -> Self {
        match byte {
            1 => Self::Hello,
            2 => Self::Batch,
            3 => Self::Refused,
            other => Self::Other(other),
        }
    }
}

/// A message that does not hold: a fault of the peer's.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, thiserror::Error)]
pub enum WireFault {
    /// Longer than its kind may be.
    #[error("too_large")]
    TooLarge,
    /// Nested deeper than allowed.
    #[error("too_deep")]
    TooDeep,
    /// It ended, or stood still, before its end.
    #[error("half_sent")]
    HalfSent,
    /// Bytes after its end.
    #[error("trailing")]
    Trailing,
    /// It does not read as its kind.
    #[error("malformed")]
    Malformed,
}

/// The bytes that a body of this kind may have.
pub const fn body_max(kind: MessageKind) -> usize {
    match kind {
        MessageKind::Hello => HELLO_BYTES_MAX,
        MessageKind::Batch => BATCH_BYTES_MAX,
        MessageKind::Refused | MessageKind::Other(_) => REFUSED_BYTES_MAX,
    }
}

/// The head of a frame.
pub fn frame_head(kind: MessageKind, length: usize) -> [u8; FRAME_HEAD] {
    let length = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
    [kind.byte(), length[0], length[1], length[2], length[3]]
}

/// Reads the head of a frame: its kind, and the length of its body.
///
/// # Errors
/// The body is too large for its kind.
pub fn parse_head(head: [u8; FRAME_HEAD]) -> Result<(MessageKind, usize), WireFault> {
    let kind = MessageKind::of(head[0]);
    let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
    if length > body_max(kind) { Err(WireFault::TooLarge) } else { Ok((kind, length)) }
}

pub(super) fn to_cbor(value: &impl Serialize) -> Vec<u8> {
    serde_cbor::ser::to_vec_packed(value).unwrap_or_default()
}

pub(super) fn from_cbor<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, WireFault> {
    serde_cbor::from_slice(bytes).map_err(|error| {
        let text = error.to_string();
        // What is nested too deep is so whatever was expected there.
        let nested = serde_cbor::from_slice::<serde::de::IgnoredAny>(bytes).err();
        if nested.is_some_and(|nested| nested.to_string().contains("recursion")) {
            WireFault::TooDeep
        } else if text.contains("trailing") {
            WireFault::Trailing
        } else {
            WireFault::Malformed
        }
    })
}

/// A request's frame.
pub fn encode_request(request: &Request) -> Vec<u8> {
    let (kind, body) = match request {
        Request::Hello(hello) => (MessageKind::Hello, to_cbor(hello)),
        Request::Batch(batch) => (MessageKind::Batch, to_cbor(batch)),
        Request::Unknown(byte) => (MessageKind::Other(*byte), Vec::new()),
    };
    framed(kind, &body)
}

/// A response's frame.
pub fn encode_response(response: &Response) -> Vec<u8> {
    let (kind, body) = match response {
        Response::Hello(hello) => (MessageKind::Hello, to_cbor(hello)),
        Response::Batch(answer) => (MessageKind::Batch, to_cbor(answer)),
        Response::Refused(problem) => (MessageKind::Refused, to_cbor(problem)),
        Response::Unknown(byte) => (MessageKind::Other(*byte), Vec::new()),
    };
    framed(kind, &body)
}

fn framed(kind: MessageKind, body: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(FRAME_HEAD + body.len());
    frame.extend_from_slice(&frame_head(kind, body.len()));
    frame.extend_from_slice(body);
    frame
}

/// Reads a request's body.
///
/// # Errors
/// It does not hold.
pub fn decode_request(kind: MessageKind, body: &[u8]) -> Result<Request, WireFault> {
    match kind {
        MessageKind::Hello => Ok(Request::Hello(Box::new(from_cbor(body)?))),
        MessageKind::Batch => {
            let batch: Batch = from_cbor(body)?;
            check_batch(&batch)?;
            Ok(Request::Batch(Box::new(batch)))
        }
        MessageKind::Refused => Ok(Request::Unknown(kind.byte())),
        MessageKind::Other(byte) => Ok(Request::Unknown(byte)),
    }
}

/// Reads a response's body.
///
/// # Errors
/// It does not hold.
pub fn decode_response(kind: MessageKind, body: &[u8]) -> Result<Response, WireFault> {
    match kind {
        MessageKind::Hello => Ok(Response::Hello(Box::new(from_cbor(body)?))),
        MessageKind::Batch => Ok(Response::Batch(Box::new(from_cbor(body)?))),
        MessageKind::Refused => Ok(Response::Refused(from_cbor(body)?)),
        MessageKind::Other(byte) => Ok(Response::Unknown(byte)),
    }
}

fn check_batch(batch: &Batch) -> Result<(), WireFault> {
    let too_many = batch.tells.len() > super::TELLS_MAX
        || batch.asks.len() > super::ASKS_MAX
        || batch.acts.len() > super::ACTS_MAX;
    if too_many {
        return Err(WireFault::TooLarge);
    }
    let calls =
        batch.tells.iter().map(|item| &item.call).chain(batch.asks.iter().map(|item| &item.call));
    for call in calls {
        check_call(call)?;
    }
    let results = batch.reports.iter().filter_map(|report| report.reply.result.as_ref().ok());
    for result in results {
        check_json(result)?;
    }
    Ok(())
}

fn check_call(call: &WireCall) -> Result<(), WireFault> {
    let token =
        call.user.as_ref().and_then(|user| user.token.as_ref()).map_or(0, |token| token.len());
    if call.command.len() > 64 || call.root.path.len() > 64 || token > TOKEN_BYTES_MAX {
        return Err(WireFault::TooLarge);
    }
    check_json(&call.args)
}

fn check_json(json: &Json) -> Result<(), WireFault> {
    if depth_of(json) > DEPTH_MAX {
        return Err(WireFault::TooDeep);
    }
    if bytes_of(json) > CALL_BYTES_MAX { Err(WireFault::TooLarge) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Budget, Incarnation, JobId, Root};
    use crate::wire::{Advance, TellItem};
    use proptest::prelude::*;
    use serde_json::json;

    /// The bytes of a batch as version 1 wrote them. Whatever comes later must read them.
    const GOLDEN: &str = "a600a2005007070707070707070707070707070707010101800281a2000901a5006b616374696f6e\
        2e63616c6c01a167656c656d656e7471616c6963652f67617264656e2f6c616d7002f603a3005001\
        010101010101010101010101010101018002a3000a01140203041901f4038004800580";

    #[test]
    fn a_released_batch_reads_for_ever() {
        let bytes: Vec<u8> = (0..GOLDEN.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&GOLDEN[at..at + 2], 16).unwrap())
            .collect();

        assert_eq!(
            decode_request(MessageKind::Batch, &bytes),
            Ok(Request::Batch(Box::new(batch())))
        );
        assert_eq!(to_cbor(&batch()), bytes, "and this version writes the same");
    }

    #[test]
    fn a_field_of_a_later_version_is_skipped() {
        let mut bytes = to_cbor(&batch());
        // A map of six becomes a map of seven, with a field that nobody knows.
        assert_eq!(bytes[0], 0xa6);
        bytes[0] = 0xa7;
        bytes.extend_from_slice(&[0x18, 0x63, 0x61, b'x']);

        assert_eq!(
            decode_request(MessageKind::Batch, &bytes),
            Ok(Request::Batch(Box::new(batch())))
        );
        assert_eq!(decode_request(MessageKind::of(77), &[]), Ok(Request::Unknown(77)));
    }

    #[test]
    fn what_does_not_hold_is_named() {
        let good = to_cbor(&batch());
        let mut trailing = good.clone();
        trailing.push(0);
        let deep = (0..30).fold(json!(1), |inner, _| json!([inner]));
        let mut deep_batch = batch();
        deep_batch.tells[0].call.args = deep;
        let mut deepest_batch = batch();
        deepest_batch.tells[0].call.args = (0..200).fold(json!(1), |inner, _| json!([inner]));
        let mut large_batch = batch();
        large_batch.tells[0].call.args = json!("x".repeat(CALL_BYTES_MAX + 1));
        let table = [
            (trailing, WireFault::Trailing),
            (good[..good.len() - 1].to_vec(), WireFault::Malformed),
            (to_cbor(&deep_batch), WireFault::TooDeep),
            (to_cbor(&large_batch), WireFault::TooLarge),
            (to_cbor(&deepest_batch), WireFault::TooDeep),
        ];
        for (bytes, fault) in table {
            assert_eq!(decode_request(MessageKind::Batch, &bytes), Err(fault));
        }
        assert_eq!(parse_head([2, 0xff, 0, 0, 0]), Err(WireFault::TooLarge));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(kind in any::<u8>(), bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode_request(MessageKind::of(kind), &bytes);
            let _ = decode_response(MessageKind::of(kind), &bytes);
        }
    }

    fn batch() -> Batch {
        let mut batch =
            Batch::empty(Advance { incarnation: Incarnation::from_bytes([7; 16]), done_below: 1 });
        batch.tells.push(TellItem {
            number: 9,
            call: WireCall {
                command: "action.call".to_owned(),
                args: json!({"element": "alice/garden/lamp"}),
                claim: None,
                root: Root {
                    job: JobId::from_bytes([1; 16]),
                    path: Vec::new(),
                    budget: Budget { events: 10, fuel: 20, hops: 3 },
                },
                time_left_ms: Some(500),
                user: None,
            },
        });
        batch
    }
}
