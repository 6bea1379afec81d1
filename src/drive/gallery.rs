//! The viewers' ledger: of every vehicle in view, its newest state.
//!
//! What a viewer is owed is less than what a vehicle is owed, and more. Less: of two updates of one vehicle the newer may
//! replace the older, so an update is paid when it has come or a later one has. More: whatever was shown must not stay
//! there. A vehicle that has left the view has to be said to be *gone*, and what is still shown of it
//! [`PATIENCE_MS`] later is a *ghost*.
//!
//! A viewer that a gateway has sent away comes back and asks again, with nothing on its screen. As with vehicles, what was
//! sent before, and until those in view are back too, may come or not.
//!
//! Accounts are those of the vehicles' ledger ([`super::owed`]): an update is looked at when its account is closed.

use super::area::{Area, Whereabouts};
use super::latency::Latency;
use super::owed::{Closed, LAG_MS_MIN, PATIENCE_MS, Sent};

/// What a viewer was sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Watched {
    /// Records, or `peer_location`s.
    pub records: u64,
    /// Vehicles that it said are gone.
    pub gone: u64,
    /// Different vehicles that were surely in view.
    pub present: u64,
    /// Of those, how many it was shown.
    pub seen: u64,
    /// Updates in view whose account is closed.
    pub owed: u64,
    /// Of those, which came in time, or a later one of the same vehicle did.
    pub paid: u64,
    /// Vehicles that were surely outside, or updates that were never sent.
    pub wrong: u64,
    /// The same update again.
    pub duplicate: u64,
    /// An older update than the one before.
    pub backwards: u64,
    /// Vehicles that left the view and were still shown later.
    pub ghosts: u64,
    /// Vehicles that were said to be gone and had not been shown.
    pub gone_unseen: u64,
    /// Without a time.
    pub undated: u64,
    /// There were more vehicles than are sent; from then on nothing is owed.
    pub cut: bool,
    /// From asking for the view until everything in it had been sent, where the gateway says so; the longest, if it has asked
    /// again.
    pub complete_ms: Option<u64>,
    /// From sending an update to its delivery, in ms. Without what moved before the viewer asked.
    pub latency: Latency,
}

impl Watched {
    /// Owed, and neither it nor anything newer came.
    pub fn missing(&self) -> u64 {
        self.owed - self.paid
    }

    /// What all of them were sent together; the latest of their times.
    pub fn all(watched: &[Watched]) -> Watched {
        let mut all = Watched::default();
        for one in watched {
            let Watched { records, gone, present, seen, owed, paid, wrong, duplicate, backwards, .. } = one;
            let Watched { ghosts, gone_unseen, undated, cut, complete_ms, latency, .. } = one;
            for (sum, count) in [
                (&mut all.records, records),
                (&mut all.gone, gone),
                (&mut all.present, present),
                (&mut all.seen, seen),
                (&mut all.owed, owed),
                (&mut all.paid, paid),
                (&mut all.wrong, wrong),
                (&mut all.duplicate, duplicate),
                (&mut all.backwards, backwards),
                (&mut all.ghosts, ghosts),
                (&mut all.gone_unseen, gone_unseen),
                (&mut all.undated, undated),
            ] {
                *sum += count;
            }
            all.cut |= cut;
            all.complete_ms = all.complete_ms.max(*complete_ms);
            all.latency.add(latency);
        }
        all
    }
}

/// All viewers, of one area.
#[derive(Debug)]
pub struct Gallery {
    area: Area,
    vehicles: u32,
    viewers: Vec<Viewer>,
    watched: Vec<Watched>,
}

#[derive(Clone, Debug, Default)]
struct Viewer {
    /// Since it asked, and until it left.
    asked_ms: Option<u64>,
    left: bool,
    /// It has been sent away before.
    has_returned: bool,
    /// Everything in view has been sent since it asked.
    is_complete: bool,
    /// By vehicle.
    shown: Vec<Shown>,
}

/// What a viewer knows of a vehicle.
#[derive(Clone, Copy, Debug, Default)]
struct Shown {
    /// Newest update.
    ts: u64,
    /// It is on the screen.
    is_here: bool,
    was_seen: bool,
    was_present: bool,
}

impl Gallery {
    /// Viewers that are to watch an area, of a fleet of so many.
    pub fn new(viewers: u32, area: Area, vehicles: u32) -> Gallery {
        Gallery {
            area,
            vehicles,
            viewers: vec![Viewer::default(); viewers as usize],
            watched: vec![Watched::default(); viewers as usize],
        }
    }

    /// What is to be watched.
    pub fn area(&self) -> &Area {
        &self.area
    }

    /// What each was sent.
    pub fn watched(&self) -> &[Watched] {
        &self.watched
    }

    /// A viewer asks for the area. `latest` are all vehicles' latest updates so far.
    pub fn asked(&mut self, viewer: u32, now_ms: u64, latest: impl Iterator<Item = (u32, Sent)>) {
        let one = &mut self.viewers[viewer as usize];
        (one.asked_ms, one.is_complete) = (Some(now_ms), false);
        one.shown.resize(self.vehicles as usize, Shown::default());
        if one.has_returned {
            // Where vehicles are just now nobody knows: they may have been sent away too.
            return;
        }
        for (vehicle, sent) in latest {
            // What is under way may arrive after the vehicle's next update has taken it out again.
            let is_handled = sent.sent_ms + LAG_MS_MIN <= now_ms;
            if is_handled && self.area.locate(sent.place.to_e7()) == Whereabouts::Inside {
                one.shown[vehicle as usize].was_present = true;
                self.watched[viewer as usize].present += 1;
            }
        }
    }

    /// A viewer's connection has ended: it is owed nothing more.
    pub fn left(&mut self, viewer: u32) {
        self.viewers[viewer as usize].left = true;
    }

    /// A viewer that was sent away is there again. It has nothing on its screen, and is to ask.
    pub fn returned(&mut self, viewer: u32) {
        let one = &mut self.viewers[viewer as usize];
        (one.asked_ms, one.left, one.has_returned) = (None, false, true);
        for shown in &mut one.shown {
            (shown.ts, shown.is_here) = (0, false);
        }
    }

    /// The gateway says that everything in view has been sent.
    pub fn completed(&mut self, viewer: u32, now_ms: u64) {
        let one = &mut self.viewers[viewer as usize];
        if let Some(asked_ms) = one.asked_ms.filter(|_| !std::mem::replace(&mut one.is_complete, true)) {
            let complete_ms = &mut self.watched[viewer as usize].complete_ms;
            *complete_ms = (*complete_ms).max(Some(now_ms.saturating_sub(asked_ms)));
        }
    }

    /// The gateway says that there are more vehicles than it sends.
    pub fn cut(&mut self, viewer: u32) {
        self.watched[viewer as usize].cut = true;
    }

    /// An update came to a viewer; `sent` is what the ledger knows of it.
    #[inline]
    pub fn received(&mut self, viewer: u32, sender: u32, ts: Option<u64>, sent: Option<Sent>, now_ms: u64) {
        let watched = &mut self.watched[viewer as usize];
        let one = &mut self.viewers[viewer as usize];
        watched.records += 1;
        // Before it has asked for anything, nothing is for it.
        let (Some(asked_ms), Some(shown)) = (one.asked_ms, one.shown.get_mut(sender as usize)) else {
            watched.wrong += 1;
            return;
        };
        let was_here = std::mem::replace(&mut shown.is_here, true);
        let was_seen = std::mem::replace(&mut shown.was_seen, true);
        watched.seen += (!was_seen && shown.was_present) as u64;
        let Some(ts) = ts else {
            watched.undated += 1;
            return;
        };
        if was_here && ts == shown.ts {
            watched.duplicate += 1;
            return;
        }
        watched.backwards += (ts < shown.ts) as u64;
        shown.ts = shown.ts.max(ts);
        match sent {
            Some(sent) if self.area.locate(sent.place.to_e7()) != Whereabouts::Outside => {
                if sent.sent_ms >= asked_ms {
                    watched.latency.record(now_ms.saturating_sub(sent.sent_ms));
                }
            }
            _ => watched.wrong += 1,
        }
    }

    /// A viewer was told that a vehicle has left the view.
    pub fn gone(&mut self, viewer: u32, sender: u32) {
        let watched = &mut self.watched[viewer as usize];
        watched.gone += 1;
        let shown = self.viewers[viewer as usize].shown.get_mut(sender as usize);
        let was_here = shown.is_some_and(|shown| std::mem::take(&mut shown.is_here));
        watched.gone_unseen += !was_here as u64;
    }

    /// The account of an update has been closed.
    pub fn closed(&mut self, closed: &Closed) {
        // Of a vehicle that left, the gateway may have known before us.
        if self.viewers.is_empty() || !closed.stayed {
            return;
        }
        let whereabouts = self.area.locate(closed.sent.place.to_e7());
        for (viewer, watched) in self.viewers.iter_mut().zip(&mut self.watched) {
            let settles_ms = if viewer.has_returned { PATIENCE_MS } else { 0 };
            let is_owed = |asked_ms| closed.sent.sent_ms >= asked_ms + settles_ms;
            if viewer.left || watched.cut || !viewer.asked_ms.is_some_and(is_owed) {
                continue;
            }
            let shown = &mut viewer.shown[closed.vehicle as usize];
            match whereabouts {
                Whereabouts::Inside => {
                    watched.owed += 1;
                    watched.paid += (shown.ts >= closed.ts) as u64;
                    if !std::mem::replace(&mut shown.was_present, true) {
                        watched.present += 1;
                        watched.seen += shown.was_seen as u64;
                    }
                }
                Whereabouts::Outside if shown.is_here && shown.ts < closed.ts => {
                    watched.ghosts += 1;
                    shown.is_here = false;
                }
                Whereabouts::Band | Whereabouts::Outside => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geo::Place;
    use crate::wire::json::Edges;

    const INSIDE: (i32, i32) = (50_000, 50_000);
    const BAND: (i32, i32) = (101_000, 50_000);
    const OUTSIDE: (i32, i32) = (200_000, 50_000);

    /// Two viewers of a kilometre on the equator, who asked at 1,000 ms; vehicle 0 was in view before.
    fn gallery() -> Gallery {
        let edges = Edges { south_e7: 0, west_e7: 0, north_e7: 100_000, east_e7: 100_000 };
        let mut gallery = Gallery::new(2, Area::new(edges), 3);
        for viewer in 0..2 {
            gallery.asked(viewer, 1_000, [(0, sent(500, INSIDE)), (1, sent(990, INSIDE))].into_iter());
        }
        gallery
    }

    fn sent(sent_ms: u64, (lat_e7, lon_e7): (i32, i32)) -> Sent {
        Sent { sent_ms, place: Place::from_e7(lat_e7, lon_e7) }
    }

    fn closed(vehicle: u32, ts: u64, at: (i32, i32)) -> Closed {
        Closed { vehicle, ts, sent: sent(ts, at), stayed: true }
    }

    fn receive(gallery: &mut Gallery, sender: u32, ts: u64, at: (i32, i32)) {
        gallery.received(0, sender, Some(ts), Some(sent(ts, at)), ts + 7);
    }

    #[test]
    fn what_came_or_was_replaced_is_paid() {
        let mut gallery = gallery();
        // The snapshot, of which nobody counts how old it is.
        receive(&mut gallery, 0, 500, INSIDE);
        receive(&mut gallery, 1, 990, INSIDE);
        gallery.completed(0, 1_040);
        gallery.completed(0, 9_999);
        receive(&mut gallery, 0, 1_200, INSIDE);
        for ts in [1_100, 1_200, 1_300] {
            gallery.closed(&closed(0, ts, INSIDE));
        }
        gallery.closed(&closed(2, 1_100, INSIDE));
        let [one, other] = gallery.watched() else { panic!("two") };
        assert_eq!((one.records, one.owed, one.paid, one.missing()), (3, 4, 2, 2));
        assert_eq!((one.present, one.seen), (2, 1));
        assert_eq!((one.latency.count(), one.latency.max_ms(), one.complete_ms), (1, 7, Some(40)));
        assert_eq!((other.owed, other.paid, other.present, other.seen), (4, 0, 2, 0));
    }

    #[test]
    fn a_vehicle_that_was_not_surely_handled_is_present_once_it_says_more() {
        let mut gallery = gallery();
        receive(&mut gallery, 1, 990, INSIDE);
        assert_eq!((gallery.watched()[0].present, gallery.watched()[0].seen), (1, 0));
        gallery.closed(&closed(1, 1_500, INSIDE));
        gallery.closed(&closed(1, 1_600, INSIDE));
        assert_eq!((gallery.watched()[0].present, gallery.watched()[0].seen), (2, 1));
    }

    #[test]
    fn what_must_not_come_is_counted_by_kind() {
        let mut gallery = gallery();
        receive(&mut gallery, 0, 1_100, INSIDE);
        receive(&mut gallery, 0, 1_100, INSIDE);
        receive(&mut gallery, 0, 1_050, INSIDE);
        receive(&mut gallery, 0, 1_200, BAND);
        receive(&mut gallery, 1, 1_200, OUTSIDE);
        gallery.received(0, 2, Some(1_300), None, 1_310);
        gallery.received(0, 2, None, None, 1_310);
        let one = &gallery.watched()[0];
        assert_eq!((one.duplicate, one.backwards, one.wrong, one.undated), (1, 1, 2, 1));
        assert_eq!(one.records, 7);
    }

    #[test]
    fn who_left_the_view_is_gone_or_a_ghost() {
        let mut gallery = gallery();
        for vehicle in 0..2 {
            receive(&mut gallery, vehicle, 1_100, INSIDE);
        }
        gallery.gone(0, 0);
        gallery.gone(0, 2);
        for vehicle in 0..3 {
            // In the band it may stay.
            gallery.closed(&closed(vehicle, 1_200, BAND));
            gallery.closed(&closed(vehicle, 1_300, OUTSIDE));
            gallery.closed(&closed(vehicle, 1_400, OUTSIDE));
        }
        let one = &gallery.watched()[0];
        assert_eq!((one.gone, one.gone_unseen, one.ghosts), (2, 1, 1));
        // Back again: the same state may be shown once more.
        receive(&mut gallery, 0, 1_100, INSIDE);
        assert_eq!(gallery.watched()[0].duplicate, 0);
    }

    #[test]
    fn who_left_or_sees_a_part_only_is_owed_nothing() {
        let mut gallery = gallery();
        gallery.left(0);
        gallery.cut(1);
        gallery.closed(&closed(0, 1_200, INSIDE));
        gallery.closed(&Closed { stayed: false, ..closed(1, 1_200, INSIDE) });
        assert!(gallery.watched().iter().all(|watched| watched.owed == 0));
        gallery.received(1, 0, Some(1_200), Some(sent(1_200, INSIDE)), 1_210);
        assert_eq!((gallery.watched()[1].records, gallery.watched()[1].seen), (1, 1));
    }

    #[test]
    fn who_was_sent_away_begins_again_and_is_owed_what_comes_after() {
        let mut gallery = gallery();
        receive(&mut gallery, 0, 1_100, INSIDE);
        gallery.completed(0, 1_040);
        gallery.left(0);
        gallery.returned(0);
        // Until it asks again nothing is for it; what was on its screen is not any more.
        receive(&mut gallery, 0, 1_150, INSIDE);
        assert_eq!(gallery.watched()[0].wrong, 1);
        gallery.asked(0, 2_000, [(1, sent(1_200, INSIDE))].into_iter());
        gallery.completed(0, 2_070);
        gallery.completed(0, 9_999);
        receive(&mut gallery, 0, 1_100, INSIDE);
        let settled_ms = 2_000 + PATIENCE_MS;
        for ts in [1_300, settled_ms - 1, settled_ms, settled_ms + 100] {
            gallery.closed(&closed(0, ts, INSIDE));
        }
        gallery.closed(&closed(1, settled_ms + 100, OUTSIDE));
        let one = &gallery.watched()[0];
        assert_eq!((one.owed, one.paid, one.ghosts, one.duplicate, one.backwards), (2, 0, 0, 0, 0));
        receive(&mut gallery, 0, settled_ms + 200, INSIDE);
        gallery.closed(&closed(0, settled_ms + 150, INSIDE));
        let one = &gallery.watched()[0];
        assert_eq!((one.owed, one.missing(), one.complete_ms), (3, 2, Some(70)));
        // Different vehicles, however often it has come.
        assert_eq!((one.present, one.seen), (1, 1));
    }

    #[test]
    fn before_it_asked_nothing_is_for_a_viewer() {
        let mut gallery = Gallery::new(1, *gallery().area(), 3);
        receive(&mut gallery, 0, 900, INSIDE);
        gallery.gone(0, 0);
        assert_eq!((gallery.watched()[0].wrong, gallery.watched()[0].gone_unseen), (1, 1));
    }
}
