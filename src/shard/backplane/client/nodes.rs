//! The nodes of a Cluster that there are links to.

use super::link::Kind;
use super::links::Links;
use super::server::Server;
use crate::limits;
use crate::turn::{Endpoint, LinkId};

/// Why there is a link to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// It has slots, or another node says so.
    Master,
    /// It is to say where the slots are.
    Scout,
    /// It has no slots any more; since then (`mono_ms`).
    Leaving(u64),
}

/// One node.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) server: Server,
    pub(super) role: Role,
}

impl Node {
    pub(super) fn is_ready_master(&self) -> bool {
        self.role == Role::Master && self.server.is_ready
    }
}

/// Where a node is in the table of nodes.
pub(super) type Number = u16;

/// All of them. A number is given out again once its node was forgotten.
#[derive(Debug, Default)]
pub(super) struct Nodes {
    nodes: Vec<Option<Node>>,
}

impl Nodes {
    pub(super) fn get(&self, number: Number) -> Option<&Node> {
        self.nodes.get(usize::from(number))?.as_ref()
    }

    pub(super) fn get_mut(&mut self, number: Number) -> Option<&mut Node> {
        self.nodes.get_mut(usize::from(number))?.as_mut()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Number, &Node)> {
        (0..).zip(&self.nodes).filter_map(|(number, node)| Some((number, node.as_ref()?)))
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Node> {
        self.nodes.iter_mut().flatten()
    }

    pub(super) fn by_link(&self, link: LinkId) -> Option<Number> {
        self.iter().find(|(_, node)| node.server.link == Some(link)).map(|(number, _)| number)
    }

    pub(super) fn by_address(&self, at: &Endpoint) -> Option<Number> {
        self.iter().find(|(_, node)| node.server.at == *at).map(|(number, _)| number)
    }

    pub(super) fn ready_link(&self, number: Number) -> Option<LinkId> {
        self.get(number)?.server.ready_link()
    }

    /// The node at an address, as a master. It is connected if it is new.
    pub(super) fn master<T>(&mut self, links: &mut Links<T>, at: &Endpoint) -> Option<Number> {
        let Some(number) = self.by_address(at) else { return self.connect(links, at.clone(), Role::Master) };
        self.get_mut(number)?.role = Role::Master;
        Some(number)
    }

    /// Connects another node. `None`: there are too many.
    pub(super) fn connect<T>(&mut self, links: &mut Links<T>, at: Endpoint, role: Role) -> Option<Number> {
        let vacant = self.nodes.iter().position(Option::is_none).unwrap_or(self.nodes.len());
        if vacant >= limits::CLUSTER_NODES_MAX {
            return None;
        }
        if vacant == self.nodes.len() {
            self.nodes.push(None);
        }
        let mut server = Server::new(at, Kind::Data);
        server.advance(links);
        self.nodes[vacant] = Some(Node { server, role });
        Some(vacant as Number)
    }

    /// Whoever is not named a master from now on has left.
    pub(super) fn doubt_all(&mut self, now_ms: u64) {
        for node in self.iter_mut().filter(|node| !matches!(node.role, Role::Leaving(_))) {
            node.role = Role::Leaving(now_ms);
        }
    }

    /// Forgets a node whose link is gone.
    pub(super) fn forget(&mut self, number: Number) {
        self.nodes[usize::from(number)] = None;
    }

    /// Lets go of nodes that have left, once they have answered. Returns which were forgotten.
    pub(super) fn sweep<T>(&mut self, links: &mut Links<T>) -> Vec<Number> {
        let mut forgotten = Vec::new();
        for (number, place) in (0..).zip(&mut self.nodes) {
            let Some(Node { server, role: Role::Leaving(since_ms) }) = place else { continue };
            let is_idle = server.link.is_none_or(|link| links.is_idle(link));
            if is_idle || !server.is_ready || links.now_ms >= *since_ms + limits::NODE_LEAVE_MS_MAX {
                server.leave(links);
                *place = None;
                forgotten.push(number);
            }
        }
        forgotten
    }

    /// When (`mono_ms`) one of them has to be looked at.
    pub(super) fn deadline(&self) -> Option<u64> {
        let deadlines = self.iter().filter_map(|(_, node)| match node.role {
            Role::Leaving(since_ms) => Some(since_ms + limits::NODE_LEAVE_MS_MAX),
            Role::Master | Role::Scout => node.server.deadline(),
        });
        deadlines.min()
    }
}
