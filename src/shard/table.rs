//! A list that grows in chunks and never moves.
//!
//! A `Vec` that doubles holds up to twice what it needs, and what it has outgrown stays with the allocator: with 15,000
//! vehicles that was a third of a shard's memory. Here the last chunk is the only one that is not full.

/// Bytes of one chunk: the rest of an item that does not fit is lost, and a shard with one vehicle has one chunk.
const CHUNK_BYTES: usize = 16 * 1024;

/// Items by index, first come first.
pub struct Table<T> {
    chunks: Vec<Vec<T>>,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Table { chunks: Vec::new() }
    }
}

impl<T> Table<T> {
    const PER_CHUNK: usize = {
        assert!(size_of::<T>() > 0 && size_of::<T>() <= CHUNK_BYTES);
        CHUNK_BYTES / size_of::<T>()
    };

    /// How many items there are: every index is below.
    pub fn len(&self) -> usize {
        self.chunks.last().map_or(0, |last| (self.chunks.len() - 1) * Self::PER_CHUNK + last.len())
    }

    /// Adds an item behind the others. Its index.
    pub fn push(&mut self, item: T) -> u32 {
        let index = self.len();
        match self.chunks.last_mut() {
            Some(last) if last.len() < Self::PER_CHUNK => last.push(item),
            _ => {
                let mut chunk = Vec::with_capacity(Self::PER_CHUNK);
                chunk.push(item);
                self.chunks.push(chunk);
            }
        }
        index as u32
    }

    /// The item at an index.
    #[inline]
    pub fn get(&self, index: u32) -> Option<&T> {
        self.chunks.get(index as usize / Self::PER_CHUNK)?.get(index as usize % Self::PER_CHUNK)
    }

    /// The item at an index, to change it.
    #[inline]
    pub fn get_mut(&mut self, index: u32) -> Option<&mut T> {
        self.chunks.get_mut(index as usize / Self::PER_CHUNK)?.get_mut(index as usize % Self::PER_CHUNK)
    }

    /// Every item with its index, in order.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        (0..).zip(self.chunks.iter().flatten())
    }

    /// Every item with its index, in order, to change it.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (u32, &mut T)> {
        (0..).zip(self.chunks.iter_mut().flatten())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_keep_their_index_and_their_place() {
        let mut table = Table::default();
        let count = 3 * Table::<[u64; 9]>::PER_CHUNK as u64 + 5;
        for n in 0..count {
            assert_eq!(table.len() as u64, n);
            assert_eq!(table.push([n; 9]) as u64, n);
        }
        let first: *const _ = table.get(0).expect("the first");
        for n in count..10 * count {
            table.push([n; 9]);
        }
        assert_eq!(table.get(0).map(std::ptr::from_ref), Some(first));
        for (index, item) in table.iter_mut() {
            assert_eq!(item[8], u64::from(index));
            item[0] = 1;
        }
        assert!(table.iter().all(|(index, item)| item[0] == 1 && item[1] == u64::from(index)));
        assert_eq!(table.iter().count() as u64, 10 * count);
        assert!(table.get(10 * count as u32).is_none() && table.get_mut(u32::MAX).is_none());
    }
}
