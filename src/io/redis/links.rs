//! The links of one worker, as its hands see them.

use std::rc::Rc;

use rustc_hash::FxHashMap;

use super::desk::{Desk, News};
use super::link::{Link, live};
use super::tls::Tls;
use crate::io::counters::ShellCounters;
use crate::io::mesh::Wake;
use crate::limits;
use crate::turn::{Input, LinkId, LinkWork};

/// Every link that the core has opened, and of whose end it has not been told.
pub(crate) struct Links {
    links: FxHashMap<LinkId, Rc<Link>>,
    desk: Rc<Desk>,
}

impl Links {
    /// None yet. `wake` wakes the pump when a link has something for the core.
    pub(crate) fn new(wake: Wake, tls: Option<Tls>) -> Links {
        Links { links: FxHashMap::default(), desk: Rc::new(Desk::new(wake, tls)) }
    }

    /// Carries out what a turn wants done. On the worker's thread, within its runtime.
    pub(crate) fn carry_out(&mut self, work: &[LinkWork], bytes: &[u8], counts: &mut ShellCounters) {
        for work in work {
            match work {
                LinkWork::Open { link, to } => {
                    debug_assert!(!self.links.contains_key(link), "{link:?} was opened twice");
                    if self.links.contains_key(link) {
                        continue;
                    }
                    let task = Rc::new(Link::new(*link));
                    if self.links.len() < limits::LINKS_MAX {
                        monoio::spawn(live(task.clone(), self.desk.clone(), to.clone()));
                    } else {
                        self.desk.tell(*link, News::Down(format!("more than {} links", limits::LINKS_MAX)));
                    }
                    self.links.insert(*link, task);
                }
                // A number that is not known: the link has ended, and the core was told after it had decided this.
                LinkWork::Send { link, start, len } => {
                    if let Some(link) = self.links.get(link) {
                        let blocked = link.send(&bytes[*start as usize..][..*len as usize]);
                        counts.link_sends_blocked += u64::from(blocked);
                    }
                }
                LinkWork::Close { link } => {
                    if let Some(link) = self.links.remove(link) {
                        link.close();
                    }
                }
            }
        }
    }

    /// Hands the core what links have for it. Nothing comes from one that the core has closed.
    pub(crate) fn fetch<M>(&mut self, counts: &mut ShellCounters, mut heard: impl FnMut(Input<'_, M>)) {
        let links = &mut self.links;
        let stalled = self.desk.fetch(|link, news, bytes| match news {
            _ if !links.contains_key(&link) => {}
            News::Up => {
                counts.links_up += 1;
                heard(Input::LinkUp { link });
            }
            News::Bytes(range) => heard(Input::LinkBytes { link, bytes: &bytes[range] }),
            News::Down(why) => {
                counts.links_down += 1;
                links.remove(&link);
                heard(Input::LinkDown { link, why: &why });
            }
        });
        counts.link_stalls = self.desk.stalls();
        if stalled {
            self.links.values().for_each(|link| link.wake());
        }
    }

    /// Whether there is a link, or a task of one that has not ended: then monoio must have its turn.
    pub(crate) fn any(&self) -> bool {
        // Each task holds the desk, from before it first runs.
        !self.links.is_empty() || Rc::strong_count(&self.desk) > 1
    }

    /// Ends all links, and waits until nothing is left of them.
    pub(crate) async fn end(&mut self) {
        for (_, link) in self.links.drain() {
            link.close();
        }
        self.desk.desertion().await;
    }
}
