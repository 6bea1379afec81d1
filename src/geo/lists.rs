//! The lists of an index: what lies in each cell, where a search reads it in order.
//!
//! Entries lie in groups of four, each coordinate by itself, so that four of them are compared at a time. A list is a run
//! of groups in one store; its room doubles when it is full and halves when no more than a quarter is used, so a vehicle
//! that goes to and fro over a border does not move all others each time. The lists of 4 × 4 cells lie side by side on a
//! page, and pages are found by hash: a search around a vehicle asks for one or two.

use rustc_hash::FxHashMap;

use super::cells::{Cell, Columns};
use super::turns::Place;

/// Entries of a group.
const LANES: usize = 4;

/// Rows, and columns, of a page: 2 to this.
const PAGE_BITS: u32 = 2;
const PAGE_SIDE: u32 = 1 << PAGE_BITS;
const LISTS: usize = 1 << (2 * PAGE_BITS);

/// A latitude that is none: beyond every box, and out of every reach.
const NOWHERE: i32 = i32::MIN;

/// Four entries of a list.
#[derive(Clone, Copy, Debug)]
pub struct Group {
    pub lat: [i32; LANES],
    pub lon: [i32; LANES],
    pub slot: [u32; LANES],
}

impl Group {
    const EMPTY: Group = Group { lat: [NOWHERE; LANES], lon: [0; LANES], slot: [0; LANES] };

    pub fn place(&self, lane: usize) -> Place {
        Place { lat: self.lat[lane], lon: self.lon[lane] }
    }
}

/// Where an entry is: which list, and which lane of which group (`group × 4 + lane`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    pub list: u32,
    pub entry: u32,
}

/// What lies in one cell.
#[derive(Clone, Copy, Debug, Default)]
struct List {
    /// Its first group.
    first: u32,
    /// Entries.
    len: u32,
    /// It has room for 2^this groups; without entries it has none.
    room: u8,
}

impl List {
    fn groups(&self) -> usize {
        (self.len as usize).div_ceil(LANES)
    }
}

#[derive(Clone, Debug)]
struct Page {
    key: u64,
    /// Lists that have entries.
    used: u32,
    lists: [List; LISTS],
}

/// All lists.
#[derive(Clone, Debug, Default)]
pub struct Lists {
    by_key: FxHashMap<u64, u32>,
    pages: Vec<Page>,
    free_pages: Vec<u32>,
    groups: Vec<Group>,
    /// Runs that are free, by the logarithm of their length.
    free_runs: Vec<Vec<u32>>,
    occupied: usize,
}

/// The page of a cell, and its place there.
fn page_of(cell: Cell) -> (u64, usize) {
    let (row, column) = cell.row_and_column();
    let (low, key) = ((1 << PAGE_BITS) - 1, (row >> PAGE_BITS) as u64 | ((column >> PAGE_BITS) as u64) << 32);
    (key, ((row & low) << PAGE_BITS | column & low) as usize)
}

impl Lists {
    /// Lists that have entries.
    pub fn occupied(&self) -> usize {
        self.occupied
    }

    /// Adds an entry to a cell's list. `moved` hears of every other entry whose position that changes.
    pub fn push(&mut self, cell: Cell, place: Place, slot: u32, moved: impl FnMut(u32, u32)) -> Position {
        let (key, within) = page_of(cell);
        let page = match self.by_key.get(&key) {
            Some(page) => *page,
            None => self.open_page(key),
        };
        let list = self.pages[page as usize].lists[within];
        let list = if list.len == 0 {
            self.pages[page as usize].used += 1;
            self.occupied += 1;
            List { first: self.take_run(0), len: 0, room: 0 }
        } else if list.len as usize == LANES << list.room {
            self.rehouse(list, list.room + 1, moved)
        } else {
            list
        };
        let entry = list.first * LANES as u32 + list.len;
        self.write(entry, place, slot);
        self.pages[page as usize].lists[within] = List { len: list.len + 1, ..list };
        Position { list: page << (2 * PAGE_BITS) | within as u32, entry }
    }

    /// Takes an entry out: the last of its list takes its place. `moved` hears of every other entry whose position that
    /// changes.
    pub fn remove(&mut self, Position { list: at, entry }: Position, mut moved: impl FnMut(u32, u32)) {
        let (page, within) = ((at >> (2 * PAGE_BITS)) as usize, at as usize % LISTS);
        let mut list = self.pages[page].lists[within];
        list.len -= 1;
        let last = list.first * LANES as u32 + list.len;
        if last != entry {
            let (group, lane) = lane_of(last);
            let (place, slot) = (self.groups[group].place(lane), self.groups[group].slot[lane]);
            self.write(entry, place, slot);
            moved(slot, entry);
        }
        self.write(last, Place { lat: NOWHERE, lon: 0 }, 0);
        if list.len == 0 {
            self.free_run(list.first, list.room);
            list = List::default();
            self.occupied -= 1;
            self.pages[page].used -= 1;
        } else if list.room > 1 && list.groups() <= 1 << (list.room - 2) {
            list = self.rehouse(list, list.room - 1, moved);
        }
        self.pages[page].lists[within] = list;
        if self.pages[page].used == 0 {
            self.by_key.remove(&self.pages[page].key);
            self.free_pages.push(page as u32);
        }
    }

    /// Gives an entry another place in the same cell.
    #[inline]
    pub fn set_place(&mut self, entry: u32, place: Place) {
        let (group, lane) = lane_of(entry);
        let group = &mut self.groups[group];
        (group.lat[lane], group.lon[lane]) = (place.lat, place.lon);
    }

    /// The groups of a page's list; those beyond its entries are nowhere.
    fn read(&self, list: &List) -> &[Group] {
        &self.groups[list.first as usize..][..list.groups()]
    }

    /// Every list that has entries: its groups, and how many entries they are.
    pub fn each(&self) -> impl Iterator<Item = (&[Group], usize)> {
        let lists = self.pages.iter().flat_map(|page| &page.lists);
        lists.filter(|list| list.len > 0).map(|list| (self.read(list), list.len as usize))
    }

    /// The lists of these columns of a row that have entries, likewise.
    #[inline]
    pub fn of_row(&self, row: u32, columns: Columns, mut look_at: impl FnMut(&[Group], usize)) {
        let (mut column, mut left) = (columns.first, columns.count);
        while left > 0 {
            let (key, within) = page_of(Cell::new(row, column));
            // As many as lie side by side on this page.
            let here = left.min(u64::from(PAGE_SIDE - column % PAGE_SIDE)).min(u64::from(columns.last - column) + 1);
            if let Some(page) = self.by_key.get(&key) {
                for list in &self.pages[*page as usize].lists[within..within + here as usize] {
                    if list.len > 0 {
                        look_at(self.read(list), list.len as usize);
                    }
                }
            }
            left -= here;
            column = (column + here as u32) & columns.last;
        }
    }

    fn open_page(&mut self, key: u64) -> u32 {
        let page = Page { key, used: 0, lists: [List::default(); LISTS] };
        let at = match self.free_pages.pop() {
            Some(at) => {
                self.pages[at as usize] = page;
                at
            }
            None => {
                self.pages.push(page);
                self.pages.len() as u32 - 1
            }
        };
        self.by_key.insert(key, at);
        at
    }

    /// Moves a list to a run of another length.
    fn rehouse(&mut self, list: List, room: u8, mut moved: impl FnMut(u32, u32)) -> List {
        let first = self.take_run(room);
        for at in 0..list.groups() {
            let group = self.groups[list.first as usize + at];
            self.groups[first as usize + at] = group;
            for lane in 0..LANES.min(list.len as usize - at * LANES) {
                moved(group.slot[lane], (first as usize + at) as u32 * LANES as u32 + lane as u32);
            }
        }
        self.free_run(list.first, list.room);
        List { first, room, ..list }
    }

    /// A run of 2^`room` empty groups.
    fn take_run(&mut self, room: u8) -> u32 {
        if let Some(first) = self.free_runs.get_mut(room as usize).and_then(Vec::pop) {
            self.groups[first as usize..][..1 << room].fill(Group::EMPTY);
            return first;
        }
        let first = self.groups.len() as u32;
        self.groups.resize(self.groups.len() + (1 << room), Group::EMPTY);
        first
    }

    fn free_run(&mut self, first: u32, room: u8) {
        if self.free_runs.len() <= room as usize {
            self.free_runs.resize_with(room as usize + 1, Vec::new);
        }
        self.free_runs[room as usize].push(first);
    }

    fn write(&mut self, entry: u32, place: Place, slot: u32) {
        self.set_place(entry, place);
        let (group, lane) = lane_of(entry);
        self.groups[group].slot[lane] = slot;
    }
}

#[inline]
fn lane_of(entry: u32) -> (usize, usize) {
    (entry as usize / LANES, entry as usize % LANES)
}
