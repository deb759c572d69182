//! One file per command. Each returns the exit code; printing goes through [`crate::output`].

use std::future::Future;

use crate::cli::Command;
use crate::error::Result;

mod attach;
mod audit;
mod ca;
mod completions;
mod config;
mod container;
mod create;
mod daemon;
mod delete;
mod demo;
mod diff;
mod doctor;
mod env;
mod exec;
mod explain;
mod fetch;
mod list;
mod logs;
mod run;
mod sandbox_init;
mod set_access_mode;
mod stop;
mod unlock;

/// Runs a command to its end.
pub(crate) fn run(command: Command) -> Result<u8> {
    match command {
        Command::Daemon(args) => daemon::run(&args),
        Command::Create(args) => wait(create::run(args)),
        Command::Run(args) => wait(run::run(args)),
        Command::List(format) => wait(list::run(format)),
        Command::Env(args) => wait(env::run(args)),
        Command::Exec(args) => exec::run(&args),
        Command::SetAccessMode(args) => wait(set_access_mode::run(args)),
        Command::Stop(names) => wait(stop::run(names)),
        Command::Delete(names) => wait(delete::run(names)),
        Command::Attach(args) => wait(attach::run(args)),
        Command::Diff(args) => wait(diff::run(args)),
        Command::Fetch(args) => wait(fetch::run(args)),
        Command::Logs(args) => wait(logs::run(args)),
        Command::Unlock(args) => wait(unlock::run(args)),
        Command::Config(command) => wait(config::run(command)),
        Command::Audit(command) => wait(audit::run(command)),
        Command::Ca(command) => ca::run(command),
        Command::Explain(args) => wait(explain::run(args)),
        Command::Doctor(format) => wait(doctor::run(format)),
        Command::Demo => wait(demo::run()),
        Command::SandboxInit(args) => sandbox_init::run(&args),
        Command::ContainerLaunch(args) => container::launch(&args),
        Command::ContainerInit(args) => container::init(&args),
        Command::Completions { shell } => completions::run(shell),
    }
}

/// One thread is enough for everything but the daemon.
fn wait<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}
