//! What crosses the network, and every size limit. Bytes become model types here, once, and may
//! fail only here. Pure.

mod frame;
mod message;

pub use frame::{
    BATCH_BYTES_MAX, FRAME_HEAD, HELLO_BYTES_MAX, MessageKind, WireFault, body_max, decode_request,
    decode_response, encode_request, encode_response, frame_head, parse_head,
};
pub use message::{
    ACTS_MAX, ASKS_MAX, Advance, AskAnswer, AskItem, Batch, BatchAnswer, CALL_BYTES_MAX, FEATURES,
    Gossip, Hello, Notice, PROTOCOL_VERSION, Report, Request, Response, TELLS_MAX, TellAnswer,
    TellItem, WireCall, decode_gossip, digest_of, encode_gossip,
};
