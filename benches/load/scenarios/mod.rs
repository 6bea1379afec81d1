//! What is measured, each with its contenders and its table.

mod city;
mod fanout;
mod hosts;
mod idle;
mod ingest;
mod light;
mod scale;
mod slowloris;
mod storm;
mod viewers;

use crate::stage::Stage;

type Scenario = fn(&mut Stage);

/// All of them, in the order in which they run.
pub const ALL: [(&str, Scenario); 11] = [
    ("fanout", fanout::run),
    ("ingest", ingest::run),
    ("city", city::json),
    ("city-binary", city::binary),
    ("light", light::run),
    ("scale", scale::run),
    ("idle", idle::run),
    ("storm", storm::run),
    ("viewers", viewers::run),
    ("slowloris", slowloris::run),
    ("hosts", hosts::run),
];
