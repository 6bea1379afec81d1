//! What positions cost as JSON and as the records of `ringroad.v1`, to vehicles, to viewers and in a crowd.
//!
//! `cargo bench --bench watch` measures and takes some minutes; names after `--` choose parts (`bytes`, `city`,
//! `viewers`, `crowd`). `-- --test` runs each part for a moment. The gateway is the real binary with one worker on a
//! processor of its own; the fleet, `ringroad drive` as a library, has another.

#[path = "../shared/bench.rs"]
mod bench;
#[path = "../shared/gateway.rs"]
mod gateway;
#[path = "../shared/machine.rs"]
mod machine;
#[path = "../shared/table.rs"]
mod table;

mod bytes;
mod city;
mod crowd;
mod run;
mod viewers;

use std::process::ExitCode;

use ringroad::client::Dialect;

use crate::bench::{Asked, Extent, Verdict};

/// As in the gateway's own binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Part = fn(Extent, &mut Verdict);

const PARTS: [(&str, Part); 4] =
    [("bytes", bytes::run), ("city", city::run), ("viewers", viewers::run), ("crowd", crowd::run)];

/// Both, in the order in which they are compared.
const DIALECTS: [(&str, Dialect); 2] = [("JSON", Dialect::Json), ("binary", Dialect::Binary)];

fn main() -> ExitCode {
    let asked = Asked::read();
    println!("{}\n", machine::describe());
    let mut verdict = Verdict::default();
    for (_, run) in PARTS.iter().filter(|(name, _)| asked.wants(name)) {
        run(asked.extent, &mut verdict);
    }
    verdict.tell()
}
