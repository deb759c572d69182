//! `daemon`: the daemon, in this process.

use clauderon_daemon::RunOptions;
use clauderon_daemon::settings::Overrides;
use clauderon_daemon::sources::env::Environment;

use crate::cli::DaemonArgs;
use crate::error::{CliError, FAILURE, OK, Result, USAGE};
use crate::{output, reach};

pub(crate) fn run(args: &DaemonArgs) -> Result<u8> {
    if args.detached {
        // It fails only for the leader of a group, which has no terminal of another's to leave.
        let _ = rustix::process::setsid();
    }
    let detached = args.detached;
    let overrides = Overrides { http_port: args.http_port, bind: args.bind };
    let options = RunOptions { home: reach::home()?, overrides };
    let ended = clauderon_daemon::run(options, Environment::of_process(), |info| {
        // A daemon whose standard output is closed runs all the same.
        let _ = output::line(format_args!("listening on {}", info.proxy));
        let _ = output::line(format_args!("listening on {} for Kubernetes", info.kubernetes));
        let _ = output::line(format_args!("listening on {} for Talos", info.talos));
        if detached {
            fall_silent();
        }
    });
    ended.map(|()| OK).map_err(|error| {
        let code = if error.is_configuration() { USAGE } else { FAILURE };
        CliError::caused(code, error)
    })
}

/// From here on `logs/daemon.log` has every word; the file of the first words would only grow.
fn fall_silent() {
    if let Ok(null) = std::fs::File::options().write(true).open("/dev/null") {
        let _ = rustix::stdio::dup2_stdout(&null);
        let _ = rustix::stdio::dup2_stderr(&null);
    }
}
