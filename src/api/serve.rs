//! The two doors: TCP on loopback, and the control socket.

use axum::serve::ListenerExt;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use tokio::net::{TcpListener, UnixListener};

use super::guard::Door;
use super::routes::router;
use crate::node::Node;

/// Where the API listens, where nothing else is said.
const ADDRESS_DEFAULT: &str = "127.0.0.1:4751";

/// The API cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The text is no address.
    #[error("'{0}' is no address for the API: write 127.0.0.1:4751")]
    BadAddress(String),
    /// The address is not of the loopback.
    #[error("{0} is not loopback: the API has no TLS of its own")]
    NotLoopback(SocketAddr),
    /// Somebody else listens there.
    #[error("{0} is in use")]
    InUse(SocketAddr),
    /// Something else.
    #[error("the API cannot listen: {0}")]
    Io(#[from] std::io::Error),
}

/// A served API.
#[derive(Clone, Debug)]
pub struct Serving {
    /// Its base, such as `http://127.0.0.1:4751`.
    pub base: String,
}

/// Serves the API of a node until the node is asked to stop. A default port that is taken is
/// replaced; one that was asked for is not.
///
/// # Errors
/// It cannot listen.
pub async fn serve(node: Arc<Node>, asked: Option<&str>) -> Result<Serving, ServeError> {
    let asked = asked.or(node.api_setting());
    let text = asked.unwrap_or(ADDRESS_DEFAULT);
    let address: SocketAddr = text.parse().map_err(|_| ServeError::BadAddress(text.to_owned()))?;
    if !address.ip().is_loopback() {
        return Err(ServeError::NotLoopback(address));
    }
    let listener = match TcpListener::bind(address).await {
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse && asked.is_none() => {
            TcpListener::bind(SocketAddr::new(address.ip(), 0)).await?
        }
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
            return Err(ServeError::InUse(address));
        }
        bound => bound?,
    };
    let bound = listener.local_addr()?;
    let socket = control_socket(&node)?;
    let tcp = router(node.clone(), Door::Tcp(bound));
    let control = router(node.clone(), Door::Control);
    // An answer is small: it is not to wait for more.
    let listener = listener.tap_io(|stream| {
        stream.set_nodelay(true).ok();
    });
    tokio::spawn(async move { axum::serve(listener, tcp).await });
    tokio::spawn(async move { axum::serve(socket, control).await });
    Ok(Serving { base: format!("http://{bound}") })
}

fn control_socket(node: &Node) -> Result<UnixListener, std::io::Error> {
    let path = node.home().join("control.sock");
    // The home is locked by this process, so a socket that is left over is nobody's.
    std::fs::remove_file(&path).ok();
    let listener = UnixListener::bind(&path)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}
