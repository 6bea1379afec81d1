//! One connection of the fleet: whose it is, how far it has come, and whether it takes bytes.

use rustc_hash::FxHashSet;

use crate::client::Client;
use crate::turn::ConnId;

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The request is out.
    Upgrading,
    /// It is a WebSocket, and the vehicle has said who it is.
    Registering,
    /// The vehicle may drive, the viewer watch.
    Ready,
    /// We said goodbye.
    Closing,
    /// The gateway said goodbye too, or first.
    Closed,
}

/// Whose a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// That vehicle's.
    Vehicle(u32),
    /// That viewer's.
    Viewer(u32),
}

/// One connection.
#[derive(Debug)]
pub struct Conn {
    /// The shell's name for it.
    pub id: ConnId,
    /// Whose it is.
    pub who: Who,
    /// How far it has come.
    pub stage: Stage,
    /// The kernel took only a part of the last send; until it takes more, nothing is sent.
    pub blocked: bool,
    /// In the fleet's list of those that have something to send.
    pub queued: bool,
    /// What it says and hears.
    pub client: Client,
    /// Keys of which it has been told who they are.
    pub named: FxHashSet<u64>,
    /// Bytes that have come of a message that is not whole.
    pub partial_bytes: u64,
}

impl Conn {
    /// A connection that was just made.
    pub fn new(id: ConnId, who: Who, client: Client) -> Conn {
        Conn {
            id,
            who,
            stage: Stage::Upgrading,
            blocked: false,
            queued: false,
            client,
            named: FxHashSet::default(),
            partial_bytes: 0,
        }
    }

    /// The kernel took only a part of what was sent: the rest goes first.
    pub fn block(&mut self, rest: &[u8]) {
        self.blocked = true;
        self.client.pending_mut().splice(0..0, rest.iter().copied());
    }
}
