//! Gossip as the bytes of its stream (protobuf), so that a message can be signed with any key, and
//! altered after that.

use libp2p::identity::Keypair;

/// A message of the owner of `keys` about `topic`, as gossipsub sends it: its signature is over
/// `signed`, and it carries `carried`.
pub(crate) fn published(
    keys: &Keypair,
    number: u64,
    topic: &str,
    signed: &[u8],
    carried: &[u8],
) -> Vec<u8> {
    let author = keys.public().to_peer_id().to_bytes();
    let unsigned = |data: &[u8]| {
        [
            field(1, &author),
            field(2, data),
            field(3, &number.to_be_bytes()),
            field(4, topic.as_bytes()),
        ]
        .concat()
    };
    let mut said = b"libp2p-pubsub:".to_vec();
    said.extend(unsigned(signed));
    let signature = keys.sign(&said).unwrap();
    let message = [unsigned(carried), field(5, &signature)].concat();
    let rpc = field(2, &message);
    [varint(rpc.len()), rpc].concat()
}

/// A field of bytes; its number is at most 15.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut field = vec![(number << 3) | 2];
    field.extend(varint(bytes.len()));
    field.extend_from_slice(bytes);
    field
}

fn varint(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = u8::try_from(number & 0x7f).unwrap();
        number >>= 7;
        if number == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}
