//! Receive buffers that the kernel picks from: one ring of them per worker, shared by all its connections.
//!
//! A connection that is silent holds no buffer. One that speaks borrows as many as its bytes fill, until the core has
//! looked at them.
#![allow(unsafe_code)]

use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::BufRingEntry;
use io_uring::{IoUring, cqueue, squeue};

/// The only group of provided buffers in a data ring.
pub(crate) const GROUP: u16 = 0;

const PAGE_BYTES: usize = 4096;

/// A buffer that the kernel has filled and handed out. There is only one of it until it is given back.
#[derive(Debug)]
#[must_use]
pub(crate) struct Picked {
    pub(super) id: u16,
    /// How many bytes were received into it.
    pub(super) len: usize,
}

/// A provided buffer ring and the memory of its buffers, in one mapping.
///
/// Invariant: each buffer is in exactly one of three places: in the ring, in a completion that was not looked at yet,
/// or given back and not published yet.
pub(crate) struct Buffers {
    map: NonNull<u8>,
    map_bytes: usize,
    /// Where the buffers begin, after the entries of the ring.
    data_offset: usize,
    count: u16,
    bytes: u32,
    /// Entries written, published or not; wraps like the kernel's.
    tail: u16,
    published: u16,
}

impl Buffers {
    /// Maps `count` buffers (a power of two, at most 32,768) of `bytes` bytes, hands all of them to the kernel and
    /// registers the ring. [`Buffers::unregister`] has to come before the drop.
    pub(crate) fn register<S, C>(ring: &IoUring<S, C>, count: u16, bytes: u32) -> io::Result<Buffers>
    where
        S: squeue::EntryMarker,
        C: cqueue::EntryMarker,
    {
        assert!(count.is_power_of_two() && bytes > 0);
        let entries_bytes = usize::from(count) * size_of::<BufRingEntry>();
        let data_offset = entries_bytes.next_multiple_of(PAGE_BYTES);
        let map_bytes = data_offset + usize::from(count) * bytes as usize;
        // SAFETY: a fresh anonymous private mapping touches no existing memory. It is page-aligned, as the kernel wants
        // the ring to be, zero-filled, and costs memory only where it is used.
        let map = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                map_bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if map == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let map = NonNull::new(map.cast::<u8>()).expect("mmap does not answer with a null page");
        let mut buffers = Buffers { map, map_bytes, data_offset, count, bytes, tail: 0, published: 0 };
        // SAFETY: the mapping lives as long as `buffers`, whose owner unregisters before dropping it, and it holds
        // `count` entries.
        unsafe { ring.submitter().register_buf_ring_with_flags(map.as_ptr() as u64, count, GROUP, 0)? };
        for id in 0..count {
            buffers.add(id);
        }
        buffers.publish();
        Ok(buffers)
    }

    /// What was received.
    pub(crate) fn filled(&mut self, picked: &Picked) -> &mut [u8] {
        assert!(picked.id < self.count && picked.len <= self.bytes as usize);
        // SAFETY: in bounds of the mapping by the assertion. The kernel does not write a buffer that it has handed out
        // until it is published again, for which the one `Picked` is needed that is borrowed here; and `&mut self` lets
        // only one slice live at a time.
        unsafe {
            let start = self.map.as_ptr().add(self.data_offset + usize::from(picked.id) * self.bytes as usize);
            std::slice::from_raw_parts_mut(start, picked.len)
        }
    }

    /// Returns a buffer. The kernel sees it after [`Buffers::publish`].
    pub(crate) fn give_back(&mut self, picked: Picked) {
        self.add(picked.id);
    }

    fn add(&mut self, id: u16) {
        assert!(id < self.count);
        debug_assert!(self.tail.wrapping_sub(self.published) < self.count, "a buffer was given back twice");
        let slot = usize::from(self.tail & (self.count - 1));
        // SAFETY: `slot < count`, so the entry lies in the mapping. The kernel reads no entry at or beyond the tail
        // that was published, and this is one. The setters leave the reserved field of entry 0 alone, which is the
        // tail.
        unsafe {
            let entry = &mut *self.map.as_ptr().cast::<BufRingEntry>().add(slot);
            let start = self.map.as_ptr().add(self.data_offset + usize::from(id) * self.bytes as usize);
            entry.set_addr(start as u64);
            entry.set_len(self.bytes);
            entry.set_bid(id);
        }
        self.tail = self.tail.wrapping_add(1);
    }

    /// Shows the kernel every buffer given back so far. One store for a whole harvest.
    pub(crate) fn publish(&mut self) {
        if self.tail == self.published {
            return;
        }
        // SAFETY: the tail is the reserved field of the first entry: aligned, in the mapping, and written by nobody
        // else. Release: the kernel must see the entries before the tail that covers them.
        unsafe {
            let tail = BufRingEntry::tail(self.map.as_ptr().cast());
            AtomicU16::from_ptr(tail.cast_mut()).store(self.tail, Ordering::Release);
        }
        self.published = self.tail;
    }

    /// How many buffers there are, wherever they are.
    pub(crate) fn count(&self) -> usize {
        usize::from(self.count)
    }

    /// Takes the ring of buffers away from the kernel.
    pub(crate) fn unregister<S, C>(&mut self, ring: &IoUring<S, C>)
    where
        S: squeue::EntryMarker,
        C: cqueue::EntryMarker,
    {
        // A failure means that nothing is registered, which is what was wanted.
        let _ = ring.submitter().unregister_buf_ring(GROUP);
    }
}

impl Drop for Buffers {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, whole, and no slice of it outlives `self`.
        unsafe { libc::munmap(self.map.as_ptr().cast(), self.map_bytes) };
    }
}
