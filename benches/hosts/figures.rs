//! Durations to percentiles, and columns to tables.

use std::fmt;
use std::time::Duration;

/// What many deliveries took.
#[derive(Clone, Default)]
pub struct Delays(Vec<Duration>);

impl Delays {
    pub fn add(&mut self, delay: Duration) {
        self.0.push(delay);
    }

    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The least delay that at least this share of all do not exceed; none: NaN. Milliseconds.
    pub fn quantile_ms(&self, share: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let rank = (sorted.len() as f64 * share).ceil() as usize;
        sorted.get(rank.max(1) - 1).map_or(f64::NAN, |delay| delay.as_secs_f64() * 1e3)
    }

    /// p50, p99 and the longest, as cells of a table.
    pub fn cells(&self) -> [String; 3] {
        [0.5, 0.99, 1.0].map(|share| format!("{:.2}", self.quantile_ms(share)))
    }
}

/// Rows under a head, each column as wide as its widest cell; the first one stands left, the others right.
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub fn new<'a>(head: impl IntoIterator<Item = &'a str>) -> Table {
        Table { rows: vec![head.into_iter().map(str::to_owned).collect()] }
    }

    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width =
            |column: usize| self.rows.iter().filter_map(move |row| row.get(column)).map(|cell| cell.chars().count());
        let widths: Vec<usize> = (0..columns).map(|column| width(column).max().unwrap_or(0)).collect();
        for row in &self.rows {
            for (column, (cell, &width)) in row.iter().zip(&widths).enumerate() {
                match column {
                    0 => write!(f, "  {cell:<width$}")?,
                    _ => write!(f, "  {cell:>width$}")?,
                }
            }
            writeln!(f)?;
        }
        Ok(())
    }
}
