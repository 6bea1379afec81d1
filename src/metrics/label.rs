//! Counters in one family, told apart by a label whose values are an enum.

use std::marker::PhantomData;

/// An enum whose variants are the values of one label.
///
/// The variants are numbered from 0 in the order of `ALL`; the `labels!` macro sees to it.
pub trait Label: Copy + 'static {
    /// Every variant.
    const ALL: &'static [Self];
    /// Name of the label itself, such as `reason`.
    const NAME: &'static str;
    /// Position in `ALL`.
    fn index(self) -> usize;
    /// The label's value: lower case letters, digits and underscores.
    fn label(self) -> &'static str;
}

/// Most variants that a label may have; the counters lie in place, without a heap.
pub const LABELS_MAX: usize = 32;

/// One counter for each variant of `E`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PerLabel<E> {
    cells: [u64; LABELS_MAX],
    of: PhantomData<E>,
}

impl<E: Label> Default for PerLabel<E> {
    fn default() -> Self {
        const { assert!(E::ALL.len() <= LABELS_MAX, "more variants than LABELS_MAX") }
        PerLabel { cells: [0; LABELS_MAX], of: PhantomData }
    }
}

impl<E: Label> PerLabel<E> {
    /// One more.
    pub fn increment(&mut self, label: E) {
        self.add(label, 1);
    }

    /// `n` more.
    pub fn add(&mut self, label: E, n: u64) {
        self.cells[label.index()] += n;
    }

    /// How many of one.
    pub fn of(&self, label: E) -> u64 {
        self.cells[label.index()]
    }

    /// How many of all.
    pub fn total(&self) -> u64 {
        self.cells.iter().sum()
    }

    /// Adds each to its like.
    pub fn add_all(&mut self, other: &Self) {
        for (mine, theirs) in self.cells.iter_mut().zip(&other.cells) {
            *mine += theirs;
        }
    }

    /// Label values with their counts, those at zero too: a dashboard that asks for a rate needs the first zero.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        E::ALL.iter().map(|&label| (label.label(), self.of(label)))
    }
}

/// Defines an enum of label values: `Variant = "text"`, one a line. The text is what `as_str` gives and what counters
/// are labelled with.
macro_rules! labels {
    (
        $(#[$outer:meta])*
        pub enum $name:ident for $label:literal {
            $( $(#[$inner:meta])* $variant:ident = $text:literal, )+
        }
    ) => {
        $(#[$outer])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name {
            $( $(#[$inner])* $variant, )+
        }

        impl $name {
            /// The name that goes onto wires, into logs and metrics.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $( $name::$variant => $text, )+
                }
            }
        }

        impl $crate::metrics::Label for $name {
            const ALL: &'static [Self] = &[$( $name::$variant, )+];
            const NAME: &'static str = $label;

            fn index(self) -> usize {
                self as usize
            }

            fn label(self) -> &'static str {
                self.as_str()
            }
        }
    };
}

pub(crate) use labels;

#[cfg(test)]
mod tests {
    use super::*;

    labels! {
        /// For the test.
        pub enum Fruit for "fruit" {
            /// One.
            Apple = "apple",
            /// Another.
            Pear = "pear",
        }
    }

    #[test]
    fn each_label_counts_for_itself() {
        let mut counts = PerLabel::<Fruit>::default();
        counts.increment(Fruit::Pear);
        counts.add(Fruit::Pear, 4);
        let mut other = counts;
        other.increment(Fruit::Apple);
        counts.add_all(&other);
        assert_eq!(counts.iter().collect::<Vec<_>>(), [("apple", 1), ("pear", 10)]);
        assert_eq!((counts.of(Fruit::Pear), counts.total()), (10, 11));
    }

    #[test]
    fn positions_follow_the_order_of_all() {
        for (position, fruit) in Fruit::ALL.iter().enumerate() {
            assert_eq!(fruit.index(), position);
        }
    }
}
