//! `container-launch` and `container-init`: the launcher of a container, and the processes that are ours inside.

use clauderon_container::Launch;
use clauderon_sandbox::{Handed, container};

use super::sandbox_init::failed;
use crate::cli::{ContainerInitArgs, ContainerLaunchArgs};
use crate::error::Result;

pub(crate) fn launch(args: &ContainerLaunchArgs) -> Result<u8> {
    let launch = Launch { plan: &args.plan, command: &args.command, owner: args.owner, report: args.report };
    clauderon_container::launch(&launch).map_err(failed)
}

pub(crate) fn init(args: &ContainerInitArgs) -> Result<u8> {
    if args.stage.is_none() {
        return container::init().map_err(failed);
    }
    let handed = Handed { plan: args.plan_fd, status: args.status_fd, lifeline: None, command: &[] };
    Ok(container::agent(&handed, args.terminal))
}
