//! Whether a domain names a peer: a `_dnsaddr` TXT record (libp2p's dnsaddr specification).

use std::net::SocketAddr;
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::RData;

use crate::model::{Code, Problem};

/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(5);
/// Records of one domain that are looked at.
const RECORDS_MAX: usize = 64;

/// Where names are asked for: at the system's servers, or at one that is named.
fn resolver(at: Option<SocketAddr>) -> Result<TokioResolver, Problem> {
    let broken = |error: &dyn std::fmt::Display| {
        Problem::new(Code::Internal, format!("names cannot be looked up here: {error}"))
    };
    let builder = match at {
        None => TokioResolver::builder_tokio().map_err(|error| broken(&error))?,
        Some(address) => {
            let mut server = NameServerConfig::udp(address.ip());
            for connection in &mut server.connections {
                connection.port = address.port();
            }
            let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
        }
    };
    builder.build().map_err(|error| broken(&error))
}

/// The texts under `_dnsaddr.DOMAIN`.
async fn texts(domain: &str, at: Option<SocketAddr>) -> Result<Vec<String>, Problem> {
    let name = format!("_dnsaddr.{}.", domain.trim_end_matches('.'));
    let unanswered = |why: &str| {
        Problem::new(Code::PeerUnreachable, format!("{name} cannot be looked up: {why}"))
    };
    let resolver = resolver(at)?;
    let looked = tokio::time::timeout(PATIENCE, resolver.txt_lookup(name.clone())).await;
    let found = match looked.map_err(|_| unanswered("no answer in time"))? {
        Err(error) if error.is_no_records_found() => return Ok(Vec::new()),
        found => found.map_err(|error| unanswered(&error.to_string()))?,
    };
    let texts = found.answers().iter().filter_map(|record| match &record.data {
        RData::TXT(text) => Some(text.to_string()),
        _ => None,
    });
    Ok(texts.take(RECORDS_MAX).collect())
}

/// Checks that a domain names a peer.
///
/// # Errors
/// It cannot be looked up, or names others.
pub(super) async fn check(
    domain: &str,
    peer_id: &str,
    at: Option<SocketAddr>,
) -> Result<(), Problem> {
    let texts = texts(domain, at).await?;
    let names = |text: &String| {
        text.strip_prefix("dnsaddr=")
            .is_some_and(|address| address.trim().ends_with(&format!("/p2p/{peer_id}")))
    };
    if texts.iter().any(names) {
        return Ok(());
    }
    Err(Problem::new(Code::Refused, format!("_dnsaddr.{domain} does not name {peer_id}")).hint(
        format!("its owner adds a TXT record there: dnsaddr=/dns4/{domain}/tcp/4750/p2p/{peer_id}"),
    ))
}
