//! A table of counters: one line each, from which the struct, its sum and its exposition are made.

use super::{Durations, Label, PerLabel, Scale};

/// What Prometheus calls the type of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Durations in buckets.
    Histogram,
}

/// What is to be said about one family of series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Family {
    /// Its Prometheus name.
    pub name: &'static str,
    /// Its type.
    pub kind: Kind,
    /// What it counts in; empty where the help says it.
    pub unit: &'static str,
    /// One sentence.
    pub help: &'static str,
}

/// The values of one family.
#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    /// A single series without labels.
    One(u64),
    /// One series per value of a label.
    Labelled(&'static str, Vec<(&'static str, u64)>),
    /// A histogram.
    Buckets(Buckets),
}

/// Durations, whatever they were counted in.
#[derive(Clone, Debug, PartialEq)]
pub struct Buckets {
    /// Upper bounds, milliseconds, each with how many were at most that.
    pub cumulative: Vec<(f64, u64)>,
    /// All of them together, milliseconds.
    pub sum_ms: f64,
    /// How many.
    pub count: u64,
}

/// A field of a table.
pub trait Series {
    /// Adds what another worker counted.
    fn add_all(&mut self, other: &Self);
    /// What there is to expose.
    fn values(&self) -> Values;
}

impl Series for u64 {
    fn add_all(&mut self, other: &Self) {
        *self += other;
    }

    fn values(&self) -> Values {
        Values::One(*self)
    }
}

impl<E: Label> Series for PerLabel<E> {
    fn add_all(&mut self, other: &Self) {
        PerLabel::add_all(self, other);
    }

    fn values(&self) -> Values {
        Values::Labelled(E::NAME, self.iter().collect())
    }
}

impl<S: Scale> Series for Durations<S> {
    fn add_all(&mut self, other: &Self) {
        Durations::add_all(self, other);
    }

    fn values(&self) -> Values {
        let (cumulative, sum_ms, count) = (self.buckets_ms().collect(), self.sum_ms(), self.count());
        Values::Buckets(Buckets { cumulative, sum_ms, count })
    }
}

/// Defines a struct of counters. Each line is `field: Type = kind "prometheus_name", "unit", "Help.";`. A field that is
/// itself such a struct is `field: Type = table;` with a doc comment.
///
/// The struct gets `Clone`, `Debug`, `Default`, `PartialEq`, `add` (sum over workers) and `visit` (every family with
/// its values, in the order of the lines).
macro_rules! counters {
    (
        $(#[$outer:meta])*
        pub struct $name:ident {
            $(
                $(#[$inner:meta])*
                $field:ident: $type:ty = $kind:ident $($metric:literal, $unit:literal, $help:literal)?;
            )+
        }
    ) => {
        $(#[$outer])*
        #[derive(Clone, Debug, Default, PartialEq)]
        pub struct $name {
            $( $(#[$inner])* $(#[doc = $help])? pub $field: $type, )+
        }

        impl $name {
            /// Adds what another worker counted.
            pub fn add(&mut self, other: &Self) {
                $( $crate::metrics::counters!(@add $kind, self.$field, other.$field); )+
            }

            /// Shows every family with its values.
            pub fn visit(&self, see: &mut dyn FnMut($crate::metrics::Family, $crate::metrics::Values)) {
                $( $crate::metrics::counters!(@visit $kind, self.$field, see $(, $metric, $unit, $help)?); )+
            }
        }
    };

    (@add table, $mine:expr, $theirs:expr) => { $mine.add(&$theirs) };
    (@add $kind:ident, $mine:expr, $theirs:expr) => { $crate::metrics::Series::add_all(&mut $mine, &$theirs) };

    (@visit table, $values:expr, $see:ident) => { $values.visit($see) };
    (@visit $kind:ident, $values:expr, $see:ident, $metric:literal, $unit:literal, $help:literal) => {
        $see(
            $crate::metrics::Family {
                name: $metric,
                kind: $crate::metrics::counters!(@kind $kind),
                unit: $unit,
                help: $help,
            },
            $crate::metrics::Series::values(&$values),
        )
    };

    (@kind counter) => { $crate::metrics::Kind::Counter };
    (@kind gauge) => { $crate::metrics::Kind::Gauge };
    (@kind histogram) => { $crate::metrics::Kind::Histogram };
}

pub(crate) use counters;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Histogram;

    counters! {
        /// A table within another.
        pub struct Inner {
            sent: u64 = counter "inner_sent_total", "bytes", "Sent.";
        }
    }

    counters! {
        /// The other.
        pub struct Outer {
            open: u64 = gauge "outer_open", "", "Open.";
            /// A table.
            inner: Inner = table;
            took: Histogram = histogram "outer_took_ms", "ms", "Took.";
        }
    }

    #[test]
    fn nested_tables_are_summed_and_seen_in_their_place() {
        let mut one = Outer { open: 2, inner: Inner { sent: 5 }, took: Histogram::default() };
        one.add(&one.clone());
        let mut seen = Vec::new();
        one.visit(&mut |family, values| seen.push((family.name, family.kind, family.unit, values)));
        let expected = [
            ("outer_open", Kind::Gauge, "", Values::One(4)),
            ("inner_sent_total", Kind::Counter, "bytes", Values::One(10)),
            ("outer_took_ms", Kind::Histogram, "ms", Histogram::default().values()),
        ];
        assert_eq!(seen, expected);
    }
}
