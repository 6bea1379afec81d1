//! Names to addresses, off the core: the system's resolver waits for its servers, and takes its thread along.

use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use monoio::net::UnixStream;
use monoio::time::sleep;

use super::words;
use crate::limits;

/// Asks for the addresses of a name, in a thread of its own. `threads` is held by each of them, however long its
/// answer takes and whether or not somebody still waits for it; so they can be counted.
pub(super) async fn resolve(host: &str, port: u16, threads: &Arc<()>) -> Result<Vec<SocketAddr>, String> {
    while Arc::strong_count(threads) > limits::LINK_RESOLVERS_MAX {
        sleep(Duration::from_millis(limits::LINK_RESOLVE_RETRY_MS)).await;
    }
    let failed = |why: String| format!("cannot resolve {host}: {why}");
    let (answer, answers) = mpsc::channel();
    // The other end of a socket that closes is readable: that wakes a task of this thread without a waker of its own.
    let (bell, heard) = std::os::unix::net::UnixStream::pair().map_err(|error| failed(words(&error)))?;
    let heard = UnixStream::from_std(heard).map_err(|error| failed(words(&error)))?;
    let (name, held) = (host.to_owned(), threads.clone());
    let ask = move || {
        let addresses = (name.as_str(), port).to_socket_addrs();
        // Nobody may wait for it any more.
        let _ = answer.send(addresses.map(|all| all.take(limits::LINK_ADDRESSES_MAX).collect::<Vec<_>>()));
        drop(held);
        drop(bell);
    };
    thread::Builder::new().name("ringroad-name".to_owned()).spawn(ask).map_err(|error| failed(words(&error)))?;
    heard.readable(false).await.map_err(|error| failed(words(&error)))?;
    match answers.try_recv() {
        Ok(Ok(addresses)) if addresses.is_empty() => Err(failed("it has no address".to_owned())),
        Ok(Ok(addresses)) => Ok(addresses),
        Ok(Err(error)) => Err(failed(words(&error))),
        Err(_) => Err(failed("the resolver gave up".to_owned())),
    }
}
