//! The binary: what was asked is read in [`cli`], done by the library, and told as an exit code.

mod cli;
mod serve;

use std::ops::ControlFlow;
use std::process::ExitCode;

use cli::{Asked, DemoArgs, DriveArgs, Failure};
use ringroad::drive::{self, DriveOptions, Report};
use ringroad::gateway;
use ringroad::io::signals;

/// One heap per thread: what a worker allocates, it frees.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let asked = cli::asked();
    let done = cli::start_logs().and_then(|logs| match asked {
        Asked::Serve(args) => serve::serve(&args, &logs),
        Asked::Drive(args) => drive(args),
        Asked::Demo(args) => demo(args),
        Asked::Config(args) => cli::show_config(&args),
        Asked::Doctor(args) => cli::doctor(&args),
    });
    done.map_or_else(|failure| failure.tell(), |()| ExitCode::SUCCESS)
}

fn runtime(error: impl std::fmt::Display) -> Failure {
    Failure::Runtime(error.to_string())
}

/// Runs a fleet against a gateway.
fn drive(args: DriveArgs) -> Result<(), Failure> {
    let signals = signals::Pending::watch().map_err(runtime)?;
    let mut line = cli::ProgressLine::default();
    let driven = run_fleet(args.options(), &signals, |report| line.show(report));
    drop(line);
    tell(&driven?)
}

/// Runs a gateway and the bundled city trace against it.
fn demo(args: DemoArgs) -> Result<(), Failure> {
    let config = args.serve.config()?;
    if config.tls.is_on() {
        return Err(Failure::Usage("the demo's own vehicles speak no TLS; leave out `tls.certificate`".to_owned()));
    }
    let signals = signals::Pending::watch().map_err(runtime)?;
    let running = gateway::serve(config.clone()).map_err(runtime)?;
    let addr = running.addr().ok_or_else(|| runtime("the gateway listens nowhere"))?;
    cli::say(&cli::demo_announcement(&config, addr, running.workers().into()))?;
    let options = args.options(&config, addr, include_bytes!("../data/austin-hour.csv.gz"));
    let mut table = cli::LiveTable::default();
    let driven = run_fleet(options, &signals, |report| table.show(report));
    drop(table);
    running.stop();
    running.join().map_err(runtime)?;
    tell(&driven?)
}

/// The table. What did not come is a result; that nobody was left to get it is a failure.
fn tell(report: &Report) -> Result<(), Failure> {
    cli::say(&report.to_string())?;
    if report.deserted { Err(runtime("every vehicle was lost before the drive was over")) } else { Ok(()) }
}

/// Drives to the end, or until a signal asks for an early goodbye.
fn run_fleet(
    options: DriveOptions,
    signals: &signals::Pending,
    mut show: impl FnMut(&Report),
) -> Result<Report, Failure> {
    let report = drive::run(options, |report| {
        show(report);
        if signals.has_come() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    report.map_err(|error| if error.is_misuse() { Failure::Usage(error.to_string()) } else { runtime(error) })
}
